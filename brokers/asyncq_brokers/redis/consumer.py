"""One worker's hold on some queues."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from asyncq.driver import (
    Ack,
    ConsumerOptions,
    Dead,
    Delivery,
    Environment,
    GiveBack,
    Park,
    Requeue,
    Settlement,
)
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull
from asyncq.protocol import encode_envelope
from asyncq_brokers._clients.redis import BrokerOptions, Link
from asyncq_brokers._parcels import dead_queue

from .deliveries import Deliveries, Move, make_tag, order_taken, parked
from .envelope import mark_redelivered, priority_of, readable, was_redelivered
from .keys import Keys
from .maintenance import Housekeeper
from .waiter import Waiter

__all__ = ["RedisConsumer"]

logger = logging.getLogger(__name__)

#: The most messages that one claim takes: Redis serves nobody else meanwhile, and Lua unpacks no more than some 8,000
#: values at a time.
_MOST = 500

#: Seconds that the giving back at `close` may take.
_CLOSE_TIMEOUT = 0.5


class RedisConsumer:
    """Takes by script, waits without taking, settles by tags (`asyncq.driver.Consumer`)."""

    def __init__(
        self,
        queues: Sequence[str],
        options: ConsumerOptions,
        *,
        link: Link,
        waiter: Waiter,
        keys: Keys,
        transport: BrokerOptions,
        environment: Environment,
    ) -> None:
        self._link = link
        self._waiter = waiter
        self._keys = keys
        self._environment = environment
        self._clock = environment.clock
        self._lease = options.lease
        self._deliveries = Deliveries(link, keys)
        self._housekeeper = Housekeeper(link, self._deliveries, keys, transport, environment)
        self._order = _QueueOrder(queues, keys, transport)
        #: A tag tells whose it is: `<node>/<this consumer>/<number>`.
        self._prefix = f"{options.node}/{environment.new_id()[:8]}/"
        self._number = 0
        #: Tags of what is out -> the list it came from, in the order in which it was taken.
        self._held: dict[str, str] = {}
        #: Taken and not handed out yet: `receive` may have been cancelled while its claim was under way.
        self._ready: deque[Delivery] = deque()
        self._claiming: asyncio.Task[None] | None = None
        #: Claims whose reply was lost: first number, how many at most, and until when they are looked for.
        self._unsure: deque[tuple[int, int, float]] = deque()
        self.closed = False

    @property
    def last_contact(self) -> float:
        return self._link.last_reply

    async def receive(self, limit: int) -> list[Delivery]:
        while True:
            self._refuse_if_closed()
            if self._ready:
                return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
            if self._claiming is None:
                self._claiming = asyncio.create_task(self._claim(min(limit, _MOST)))
            # A cancelled `receive` leaves the claim alone: what it takes goes to the next one, or back at `close`.
            await asyncio.wait([self._claiming])
            claiming, self._claiming = self._claiming, None
            claiming.result()
            if not self._ready and not self.closed:
                await self._waiter.wait()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        try:
            return await self._settle(settlements)
        except BrokerFull as error:
            # A full memory refuses none of this, a full disk all of it: BrokerFull would say that acks were done.
            raise BrokerConnectionError(str(error)) from error

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        gone = await self._deliveries.extend([delivery.tag for delivery in deliveries], self._lease)
        for position in gone:
            self._held.pop(deliveries[position].tag, None)
        return [deliveries[position] for position in sorted(gone)]

    async def maintain(self) -> float:
        await self._find_lost_claims()
        return await self._housekeeper.run(self._held)

    async def close(self) -> None:
        self.closed = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._give_back_unused()
        except (TimeoutError, BrokerError) as error:
            logger.info("could not give back what was taken and not begun; its lease will: %s", error)
        finally:
            await asyncio.gather(self._waiter.close(), self._link.close())

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        acks: list[int] = []
        moves: list[tuple[int, Move]] = []
        back: list[tuple[int, Move]] = []
        for position, settlement in enumerate(settlements):
            match settlement:
                case Ack():
                    acks.append(position)
                case GiveBack():
                    back.append((position, self._move(settlement)))
                case _:
                    moves.append((position, self._move(settlement)))
        # Each goes to the front of its list: the youngest first, so that the oldest is served first.
        back.sort(key=lambda item: order_taken(item[1].tag), reverse=True)
        moves += back
        gone: set[int] = set()
        if moves:
            left = await self._deliveries.move("held", [move for _, move in moves])
            gone.update(moves[number][0] for number in left)
        if acks:
            left = await self._deliveries.ack([settlements[position].delivery.tag for position in acks])
            gone.update(acks[number] for number in left)
        for settlement in settlements:
            self._held.pop(settlement.delivery.tag, None)
        return [settlements[position].delivery for position in sorted(gone)]

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise BrokerConnectionError("the consumer is closed")

    async def _claim(self, limit: int) -> None:
        """Take up to so many messages into `_ready`."""
        lists, queues, fair = self._order.lists, self._order.queues, self._order.fair
        first, self._number = self._number, self._number + limit
        asked_at = self._clock.monotonic()
        try:
            claimed = await self._deliveries.claim(
                lists, queues, limit=limit, lease=self._lease, prefix=self._prefix, first=first, fair=fair
            )
        except BrokerConnectionError:
            self._unsure.append((first, limit, asked_at + self._lease))
            raise
        for one in claimed:
            self._held[one.tag] = lists[one.list_number]
            queue = queues[one.list_number % len(queues)]
            self._ready.append(
                Delivery(one.tag, queue, one.raw, redelivered=was_redelivered(one.raw), asked_at=asked_at)
            )
        if claimed:
            self._order.rotate(claimed[-1].list_number)
        # The script looked at the shape alone.
        unreadable = [one.tag for one in claimed if not readable(one.raw)]
        if unreadable:
            await self._deliveries.hide(unreadable)

    async def _find_lost_claims(self) -> None:
        """Give back what claims took whose replies never came: the tags were ours.

        Asked again until the lease would end: a server that was frozen may carry out the claim of a broken connection
        after it has answered on the new one.
        """
        for _ in range(len(self._unsure)):
            first, limit, until = self._unsure[0]
            tags = [make_tag(self._prefix, number) for number in range(first, first + limit)]
            returned = await self._deliveries.put_back("held", tags, started=False)
            if returned:
                logger.info("gave back %d messages that were taken when the connection broke", returned)
            lost = self._unsure.popleft()
            if not returned and self._clock.monotonic() < until:
                self._unsure.append(lost)

    async def _give_back_unused(self) -> None:
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
        if self._ready:
            await self.settle([GiveBack(delivery) for delivery in self._ready])
            self._ready.clear()
        await self._find_lost_claims()

    def _move(self, settlement: Requeue | GiveBack | Park | Dead) -> Move:
        delivery = settlement.delivery
        raw = _raw(delivery)
        match settlement:
            case Requeue(front=front):
                return Move(delivery.tag, "R" if front else "L", self._list_of(delivery), mark_redelivered(raw))
            case GiveBack():
                return Move(delivery.tag, "R", self._list_of(delivery), raw)
            case Park(until=until):
                return parked(self._keys, delivery.tag, delivery.queue, raw, until)
            case Dead(letter=letter):
                queue = dead_queue(delivery.queue)
                envelope = encode_envelope(letter, routing_key=queue, delivery_tag=self._environment.new_id())
                return Move(delivery.tag, "L", self._keys.dead(delivery.queue), envelope)

    def _list_of(self, delivery: Delivery) -> str:
        return self._held.get(delivery.tag) or self._keys.list(delivery.queue, priority_of(_raw(delivery)))


def _raw(delivery: Delivery) -> bytes:
    if not isinstance(delivery.content, bytes):
        raise TypeError("a delivery of the Redis broker has its envelope as content")
    return delivery.content


class _QueueOrder:
    """Whose turn it is within a priority step. Steps themselves are strict."""

    def __init__(self, queues: Sequence[str], keys: Keys, transport: BrokerOptions) -> None:
        strategy = transport.queue_order_strategy
        self._keys = keys
        #: The queues share a step; otherwise the first one's messages come first.
        self.fair = strategy == "round_robin"
        self.queues = sorted(queues) if strategy == "sorted" else list(queues)
        self.lists = self._arrange()

    def rotate(self, list_number: int) -> None:
        """Put the queue that was served last at the end."""
        if self.fair and len(self.queues) > 1:
            served = list_number % len(self.queues) + 1
            self.queues = self.queues[served:] + self.queues[:served]
            self.lists = self._arrange()

    def _arrange(self) -> list[str]:
        return [self._keys.list(queue, step) for step in self._keys.steps for queue in self.queues]
