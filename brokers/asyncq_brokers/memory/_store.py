"""The queues themselves. A lock guards them, and a change wakes waiting consumers in their own loops."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager

from msgspec import Struct

from asyncq.driver import Ack, Dead, Delivery, GiveBack, Park, Place, QueueDepth, Requeue, Settlement, Stored
from asyncq_brokers._parcels import PRIORITY_STEPS, Parcel, dead_queue

#: Seconds between two looks for what is due or expired, at most: a due message may be a second late.
HOUSEKEEPING = 0.5


class _Message(Struct, eq=False):
    #: Place in line, and name within the store: less is earlier. A message that comes back keeps it.
    rank: int
    queue: str
    step: int
    content: bytes
    #: UNIX seconds until which it is parked.
    due: float | None = None
    redelivered: bool = False
    count: int = 0
    #: Whose it is, and until when (monotonic), while it is leased.
    node: str = ""
    expires: float = 0.0

    def __lt__(self, other: _Message) -> bool:
        return self.rank < other.rank


class Waiter(Struct, eq=False):
    """A consumer that waits for its queues, maybe in another thread's loop."""

    queues: frozenset[str]
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class Store:
    """The state that all instances share. Each method is atomic, and none waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranks = itertools.count(1)
        self._front_ranks = itertools.count(-1, -1)
        #: Heaps in order of rank, by queue and priority step.
        self._ready: defaultdict[tuple[str, int], list[_Message]] = defaultdict(list)
        self._leased: dict[str, _Message] = {}
        self._parked: dict[int, _Message] = {}
        #: A heap of (due, rank). It may still name what is parked no more.
        self._dues: list[tuple[float, int]] = []
        #: A dict, and no set, for its order: who waits first is woken first, in each run of a test alike.
        self._waiters: dict[Waiter, None] = {}

    # -- messages in and out

    def add(self, parcels: Iterable[Parcel]) -> None:
        with self._lock:
            self._place(
                _Message(next(self._ranks), parcel.queue, parcel.step, parcel.content, parcel.not_before)
                for parcel in parcels
            )

    def claim(
        self, queues: Collection[str], limit: int, *, node: str, now: float, lease: float, new_tag: Callable[[], str]
    ) -> list[Delivery]:
        """Take up to `limit`: priority steps strictly, within a step the queues in the order given."""
        taken: list[Delivery] = []
        with self._lock:
            for step, queue in itertools.product(PRIORITY_STEPS, queues):
                heap = self._ready.get((queue, step))
                while heap and len(taken) < limit:
                    message = heapq.heappop(heap)
                    message.count += 1
                    message.node, message.expires = node, now + lease
                    tag = new_tag()
                    self._leased[tag] = message
                    taken.append(Delivery(tag, queue, message.content, message.redelivered, message.count, now))
        return taken

    def settle(self, settlements: Iterable[Settlement], letters: Mapping[str, Parcel]) -> list[Delivery]:
        """Settle in order, `letters` by tag; return what is leased no more."""
        lost: list[Delivery] = []
        with self._lock:
            for settlement in settlements:
                tag = settlement.delivery.tag
                message = self._leased.pop(tag, None)
                if message is None:
                    lost.append(settlement.delivery)
                    continue
                match settlement:
                    case Requeue(front=front):
                        message.rank = next(self._front_ranks if front else self._ranks)
                        message.redelivered = True
                    case GiveBack():
                        message.count -= 1
                    case Park(until=until):
                        message.due = until
                    case Ack():
                        continue
                    case Dead():
                        letter = letters[tag]
                        message = _Message(next(self._ranks), letter.queue, letter.step, letter.content)
                self._place([message])
        return lost

    def extend(self, deliveries: Iterable[Delivery], expires: float) -> list[Delivery]:
        lost: list[Delivery] = []
        with self._lock:
            for delivery in deliveries:
                message = self._leased.get(delivery.tag)
                if message is None:
                    lost.append(delivery)
                else:
                    message.expires = expires
        return lost

    def release(self, node: str, ended: Collection[str]) -> int:
        """Give back what the node holds, and forget what had ended; it may have begun some of the rest."""
        with self._lock:
            for tag in ended:
                if tag in self._leased and self._leased[tag].node == node:
                    del self._leased[tag]
            return self._take_away(lambda message: message.node == node)

    def housekeep(self, *, monotonic: float, wall: float) -> float:
        """Rescue what has expired, release what is due, return the seconds until the next such moment."""
        with self._lock:
            self._take_away(lambda message: message.expires <= monotonic)
            while self._dues and self._dues[0][0] <= wall:
                due, rank = heapq.heappop(self._dues)
                message = self._parked.get(rank)
                if message is not None and message.due == due:
                    self._unpark(message)
            next_expiry = min((message.expires for message in self._leased.values()), default=float("inf"))
            next_due = self._dues[0][0] if self._dues else float("inf")
        return min(HOUSEKEEPING, next_expiry - monotonic, next_due - wall)

    # -- for operators

    def depth(self, queue: str) -> QueueDepth:
        with self._lock:
            return QueueDepth(
                ready=len(self._line(queue)),
                in_flight=sum(message.queue == queue for message in self._leased.values()),
                parked=sum(message.queue == queue for message in self._parked.values()),
                dead=len(self._line(dead_queue(queue))),
            )

    def peek(self, queue: str, place: Place, limit: int, offset: int) -> list[Stored]:
        with self._lock:
            return [
                Stored(key=str(message.rank), queue=queue, content=message.content, until=message.due)
                for message in self._at(queue, place)[offset : offset + limit]
            ]

    def move(self, queue: str, place: Place, keys: Collection[str], until: float | None) -> int:
        with self._lock:
            moved = self._pull(queue, place, keys)
            for message in moved:
                message.queue, message.due, message.rank = queue, until, next(self._ranks)
            self._place(moved)
            return len(moved)

    def drop(self, queue: str, place: Place, keys: Collection[str] | None) -> int:
        """Delete the named messages of a place; all of them when `keys` is None."""
        with self._lock:
            return len(self._pull(queue, place, keys))

    @contextmanager
    def waiter(self, queues: Iterable[str]) -> Generator[Waiter]:
        """Its event is set whenever one of the queues may have got something."""
        waiter = Waiter(frozenset(queues), asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters[waiter] = None
        try:
            yield waiter
        finally:
            with self._lock:
                del self._waiters[waiter]

    # -- with the lock held

    def _place(self, messages: Iterable[_Message]) -> None:
        """Put messages where they belong, parked or ready, and wake who waits for them."""
        changed: set[str] = set()
        for message in messages:
            if message.due is not None:
                self._parked[message.rank] = message
                heapq.heappush(self._dues, (message.due, message.rank))
            else:
                heapq.heappush(self._ready[message.queue, message.step], message)
                changed.add(message.queue)
        here = asyncio.get_running_loop()
        for waiter in self._waiters:
            if waiter.queues.isdisjoint(changed) or waiter.event.is_set():
                continue
            if waiter.loop is here:
                waiter.event.set()
            elif not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.event.set)

    def _unpark(self, message: _Message) -> None:
        del self._parked[message.rank]
        message.due = None
        self._place([message])

    def _take_away(self, condition: Callable[[_Message], bool]) -> int:
        """End the leases that meet the condition: their messages stand in line again, where they stood."""
        taken = [(tag, message) for tag, message in self._leased.items() if condition(message)]
        for tag, message in taken:
            del self._leased[tag]
            message.redelivered = True
        self._place(message for _, message in taken)
        return len(taken)

    def _line(self, queue: str) -> list[_Message]:
        """What is ready, in the order in which it will be served."""
        return [message for step in PRIORITY_STEPS for message in sorted(self._ready.get((queue, step), ()))]

    def _at(self, queue: str, place: Place) -> list[_Message]:
        match place:
            case "ready":
                return self._line(queue)
            case "dead":
                return self._line(dead_queue(queue))
            case "parked":
                parked = (message for message in self._parked.values() if message.queue == queue)
                return sorted(parked, key=lambda message: (message.due or 0.0, message.rank))

    def _pull(self, queue: str, place: Place, keys: Collection[str] | None) -> list[_Message]:
        """Remove messages of a place and return them, in order."""
        pulled = [message for message in self._at(queue, place) if keys is None or str(message.rank) in keys]
        ranks = {message.rank for message in pulled}
        for rank in ranks:
            self._parked.pop(rank, None)
        for line in {(message.queue, message.step) for message in pulled if message.due is None}:
            self._ready[line] = [message for message in self._ready[line] if message.rank not in ranks]
            heapq.heapify(self._ready[line])
        return pulled
