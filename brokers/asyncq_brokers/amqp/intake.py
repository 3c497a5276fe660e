"""Lets messages come, as many as were asked for, and keeps them until somebody takes them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence

from asyncq.driver import Clock, Queue
from asyncq.errors import BrokerConnectionError, BrokerError
from asyncq_brokers._clients.amqp import Incoming, Link, Refused

from .ageing import end_old, tell_of_overdue
from .lane import Lane
from .topology import Topology

__all__ = ["Intake"]

logger = logging.getLogger(__name__)

#: Lanes that messages come on. Where more would be needed, one takes the place of all.
_MOST_LANES = 8

#: AMQP's largest window for a consumer.
_WIDEST = 65_535

#: Bytes of messages that wait here at most, and the size that is taken for theirs before one has come.
_MOST_BYTES = 64 * 1024 * 1024
_GUESS = 8 * 1024 * 1024


class Intake:
    """Lanes, and what has come on them and was not taken yet.

    Every queue has a window of one message at least. What idle queues might send doesn't narrow the windows of busy
    ones; should it come after all, and be too much, it goes back.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        *,
        link: Link,
        node: str,
        prefetch: int,
        clock: Clock,
        came: Callable[[], None],
    ) -> None:
        """`came` is called with each message that begins to wait."""
        self._queues = deque(queue.name for queue in queues)
        self._link = link
        self._node = node
        self._prefetch = prefetch
        self._clock = clock
        self._came = came
        self._topology = Topology(link)
        for queue in queues:
            self._topology.learn(queue)
        self._lanes: list[Lane] = []
        self._waiting: dict[str, deque[tuple[Lane, Incoming]]] = {name: deque() for name in self._queues}
        self._waiting_bytes = 0
        #: Bytes of a message, as they have come lately.
        self._mean_size: float | None = None
        #: Queues that we may not read.
        self._left_out: set[str] = set()
        #: Set when something has come, or there may be room for more.
        self.changed = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Something has come that nobody has taken."""
        return any(self._waiting.values())

    def take(self, limit: int) -> list[tuple[str, Lane, Incoming]]:
        """What waits, one of each queue in turn."""
        taken: list[tuple[str, Lane, Incoming]] = []
        idle = 0
        while len(taken) < limit and idle < len(self._queues):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if waiting := self._waiting[queue]:
                idle = 0
                lane, incoming = waiting.popleft()
                self._waiting_bytes -= len(incoming.body)
                taken.append((queue, lane, incoming))
            else:
                idle += 1
        return taken

    def windows(self, limit: int) -> dict[str, int]:
        """What a further lane should let through, by queue, so that `limit` more can come. Empty: none is needed."""
        active = self._active
        served = {queue for lane in active for queue in lane.windows}
        hungry = [q for q in self._queues if q not in self._left_out and not any(lane.has_room(q) for lane in active)]
        total = min(limit, self._most - self._out)
        if not hungry or total <= 0:
            return {}
        share, rest = divmod(total, len(hungry))
        widths = {queue: min(share + (place < rest), _WIDEST) for place, queue in enumerate(hungry)}
        return {queue: width or 1 for queue, width in widths.items() if width or queue not in served}

    async def open_lane(self, limit: int) -> None:
        """Let more messages come. Raises BrokerError, ConfigurationError."""
        deadline = self._link.deadline()
        windows = self.windows(limit)
        if len(self._active) >= _MOST_LANES:
            for lane in self._active:
                lane.end()
            windows = {queue: windows.get(queue, 1) for queue in self._queues if queue not in self._left_out}
        if not windows:  # a `receive` that was cancelled has had it opened
            return
        for queue in windows:
            await self._topology.ensure(queue, deadline)
        try:
            await self._open(windows, deadline)
        except Refused as refusal:
            self._topology.forget_all()  # a queue is gone: declared again at the next try
            if refusal.code == Refused.NO_RIGHTS and len(self._queues) > 1:
                await self._leave_out(windows, deadline)
            else:
                raise (BrokerConnectionError if refusal.code == Refused.NOT_FOUND else BrokerError)(
                    str(refusal)
                ) from refusal
        self.drop_empty_lanes()

    def maintain(self) -> None:
        """See to what is out for long; and rights may have been given meanwhile."""
        now = self._clock.monotonic()
        end_old(self._active, now)
        tell_of_overdue(self._lanes, now)
        if self._left_out:
            self._left_out.clear()
            self.changed.set()

    async def stop(self, queues: Collection[str]) -> dict[Lane, list[int]]:
        """Let nothing more come from these queues; return what had come and waited.

        For messages that return to their places: whoever consumes meanwhile would get them in disorder.
        """
        deadline = self._link.deadline()
        lanes = [lane for lane in self._lanes if not lane.windows.keys().isdisjoint(queues)]
        for lane in lanes:
            lane.end()
        # A lane that comes to its end now has given everything back by that.
        heard = await asyncio.gather(*(lane.channel.barrier(deadline) for lane in lanes), return_exceptions=True)
        for answer in heard:
            if isinstance(answer, BaseException) and not isinstance(answer, Refused):
                raise answer
        back: dict[Lane, list[int]] = {}
        for queue in queues:
            for lane, incoming in self._waiting[queue]:
                self._waiting_bytes -= len(incoming.body)
                back.setdefault(lane, []).append(incoming.delivery_tag)
            self._waiting[queue].clear()
        return back

    async def stop_all(self) -> dict[Lane, list[int]]:
        """`stop` for every queue."""
        return await self.stop(self._waiting.keys())

    def drop_empty_lanes(self) -> None:
        """Close the lanes on which nothing is out and nothing comes."""
        for lane in [lane for lane in self._lanes if lane.ended and not lane.out]:
            self._lanes.remove(lane)
            lane.channel.leave()

    @property
    def _active(self) -> list[Lane]:
        """The lanes on which something may come."""
        return [lane for lane in self._lanes if lane.alive and not lane.ended]

    @property
    def _out(self) -> int:
        return sum(len(lane.out) for lane in self._lanes)

    @property
    def _most(self) -> int:
        """The most messages that may be out, of the size that they seem to have."""
        return max(1, min(self._prefetch, int(_MOST_BYTES / (self._mean_size or _GUESS))))

    async def _open(self, windows: dict[str, int], deadline: float) -> None:
        lane = Lane(await self._link.channel(deadline), windows, self._clock)
        # Before the server hears of it: a queue may be deleted, a channel end, in the moment in which this opens.
        self._lanes.append(lane)
        lane.channel.on_end = lambda: self._lost(lane)
        lane.channel.on_cancel = lambda _: self._cancelled(lane)
        try:
            await lane.open(self._node, self._arrive, deadline)
        except BaseException:
            lane.channel.leave()
            self._lost(lane)
            raise

    async def _leave_out(self, windows: dict[str, int], deadline: float) -> None:
        """Find out which queues we may not read, and go on without them."""
        for queue, window in windows.items():
            try:
                await self._open({queue: window}, deadline)
            except Refused as refusal:
                if refusal.code != Refused.NO_RIGHTS:
                    raise BrokerConnectionError(str(refusal)) from refusal
                logger.warning("Nothing can be received from queue %s: %s", queue, refusal, extra={"queue": queue})
                self._left_out.add(queue)
        if self._left_out.issuperset(self._queues):
            self._left_out.clear()
            raise BrokerError("there is no queue that we may read")

    def _arrive(self, lane: Lane, queue: str, incoming: Incoming) -> None:
        size = len(incoming.body)
        if self._mean_size is None:
            # The first: what is open is as narrow as for the largest messages, and would never run full.
            for open_lane in self._active:
                open_lane.end()
        self._mean_size = size if self._mean_size is None else self._mean_size + (size - self._mean_size) / 16
        if self._is_too_much(size):
            lane.end()  # narrower windows follow
            lane.settle((), (incoming.delivery_tag,))
            lane.forget((incoming.delivery_tag,))
            return
        self._waiting_bytes += size
        self._waiting[queue].append((lane, incoming))
        self._came()
        self.changed.set()

    def _is_too_much(self, size: int) -> bool:
        """What comes now has no place here; something else waits already."""
        if not self._waiting_bytes:
            return False
        if self._waiting_bytes + size > _MOST_BYTES:
            return True
        # A queue alone has no windows but those that fit.
        return len(self._queues) > 1 and self._out > self._prefetch + len(self._queues)

    def _lost(self, lane: Lane) -> None:
        """The channel has ended: the server gives everything on it to others."""
        for queue, waiting in self._waiting.items():
            self._waiting[queue] = deque(item for item in waiting if item[0] is not lane)
        self._waiting_bytes = sum(len(incoming.body) for waiting in self._waiting.values() for _, incoming in waiting)
        if lane in self._lanes:
            self._lanes.remove(lane)
        self.changed.set()

    def _cancelled(self, lane: Lane) -> None:
        """The server has ended a consumer: its queue was deleted, or moves. Deliveries stay ours."""
        logger.info("RabbitMQ has cancelled a consumer; consuming anew")
        lane.end()
        self._topology.forget_all()
        self.changed.set()
