"""One worker's hold on some queues: messages are pushed to us, and handed out as they are asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence

from asyncq.driver import (
    Ack,
    ConsumerOptions,
    Dead,
    Delivery,
    Environment,
    GiveBack,
    Park,
    Publication,
    Queue,
    Requeue,
    Settlement,
)
from asyncq.errors import BrokerConnectionError, BrokerError
from asyncq.protocol import WireMessage
from asyncq_brokers._clients.amqp import Incoming, Link, Refused
from asyncq_brokers._clients.unbroken import Unbroken

from .lane import Lane
from .messages import mark_redelivered, read
from .publishing import Publisher
from .topology import Topology

__all__ = ["AmqpConsumer"]

logger = logging.getLogger(__name__)

#: Seconds after which others get what was pushed to us and nobody has asked for.
_IDLE = 1.0

#: Seconds between two looks at how old deliveries are.
_MAINTENANCE = 30.0

#: Seconds after which a delivery no longer shares a channel with new ones: RabbitMQ's `consumer_timeout` (30 minutes by
#: default) ends the channel, and everything on it comes again.
_OLD = 600.0

#: Seconds after which people are told of one: five minutes before that time-out.
_OVERDUE = 1500.0

#: Deliveries of one message from a quorum queue after which it is published anew instead of put back: from 4.0 on,
#: RabbitMQ drops what has come back 20 times, unless it is told otherwise.
_MOST_RETURNS = 10

#: Lanes that messages come on. Where more would be needed, one takes the place of all.
_MOST_LANES = 8

#: Seconds that the giving back at `close` may take.
_CLOSE_TIMEOUT = 0.5

_NOT_FOUND = 404


class AmqpConsumer:
    """Feeds `receive` from lanes, settles by delivery tags (`asyncq.driver.Consumer`)."""

    def __init__(
        self,
        queues: Sequence[Queue],
        options: ConsumerOptions,
        *,
        link: Link,
        publisher: Publisher,
        environment: Environment,
    ) -> None:
        self._queues = deque(queue.name for queue in queues)
        self._prefetch = options.prefetch
        self._node = options.node
        #: Not the publisher's connection: a server that is full reads nothing more from those who publish.
        self._link = link
        self._topology = Topology(link)
        for queue in queues:
            self._topology.learn(queue)
        self._publisher = publisher
        self._clock = environment.clock
        #: A tag tells whose it is: `<node>/<this consumer>/<number>`.
        self._prefix = f"{options.node}/{environment.new_id()[:8]}/"
        self._number = 0
        #: Tags of what was handed out -> its lane, its delivery tag there.
        self._held: dict[str, tuple[Lane, int]] = {}
        #: Pushed and not handed out yet.
        self._waiting: dict[str, deque[tuple[Lane, Incoming]]] = {name: deque() for name in self._queues}
        #: Runs while something waits.
        self._idle: asyncio.TimerHandle | None = None
        self._returning: asyncio.Task[None] | None = None
        self._lanes: list[Lane] = []
        self._arrived = asyncio.Event()
        self._opening = Unbroken()
        self._settling = Unbroken()
        self.closed = False

    @property
    def last_contact(self) -> float:
        return self._link.last_contact

    async def receive(self, limit: int) -> list[Delivery]:
        limit = max(1, min(limit, self._prefetch))
        while True:
            self._refuse_if_closed()
            if taken := self._take(limit):
                return taken
            self._arrived.clear()
            if self._windows(limit):
                await self._opening.run(lambda: self._open_lane(limit))
            else:
                await self._arrived.wait()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        # A caller that is cancelled leaves it running: what was published elsewhere has to be acknowledged here.
        return await self._settling.run(lambda: self._settle(settlements))

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return [delivery for delivery in deliveries if delivery.tag not in self._held]

    async def maintain(self) -> float:
        now = self._clock.monotonic()
        for lane in self._active:
            if lane.oldest < now - _OLD:
                lane.end()
        self._tell_of_overdue(now - _OVERDUE)
        return _MAINTENANCE

    async def close(self) -> None:
        self.closed = True
        self._arrived.set()
        if self._idle is not None:
            self._idle.cancel()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._opening.finish()
                await self._settling.run(self._give_back_waiting)
        except (TimeoutError, BrokerError) as error:
            logger.info("could not give back what was pushed and not begun; the end of the connection will: %s", error)
        finally:
            await self._link.close()
            if self._returning is not None:
                await asyncio.wait([self._returning])

    # -- taking

    @property
    def _active(self) -> list[Lane]:
        """The lanes on which something may come."""
        return [lane for lane in self._lanes if lane.alive and not lane.ended]

    def _windows(self, limit: int) -> dict[str, int]:
        """What a further lane should let through, by queue, so that `limit` more can come. Empty: none is needed.

        It is for the queues whose windows are used up, and together with all that is open or out it stays within the
        prefetch: at least one message a queue.
        """
        active = self._active
        hungry = [queue for queue in self._queues if not any(lane.has_room(queue) for lane in active)]
        reserved = sum(lane.width for lane in active) + sum(len(lane.out) for lane in self._lanes if lane.ended)
        total = min(limit, self._prefetch - reserved)
        return dict.fromkeys(hungry, -(-total // len(hungry))) if hungry and total > 0 else {}

    async def _open_lane(self, limit: int) -> None:
        """Let more messages come."""
        deadline = self._link.deadline()
        if len(self._active) >= _MOST_LANES:
            for lane in self._active:
                lane.end()
        windows = self._windows(limit)
        if not windows:  # a `receive` that was cancelled has had it opened
            return
        for queue in windows:
            await self._topology.ensure(queue, deadline)
        lane = Lane(await self._link.channel(deadline), windows, self._clock)
        # Before the server hears of it: a queue may be deleted, a channel end, in the moment in which this opens.
        self._lanes.append(lane)
        lane.channel.on_end = lambda: self._lost(lane)
        lane.channel.on_cancel = lambda _: self._cancelled(lane)
        try:
            await lane.open(self._node, self._arrive, deadline)
        except Refused as refusal:
            self._topology.forget_all()  # a queue is gone: declared again at the next try
            raise (BrokerConnectionError if refusal.code == _NOT_FOUND else BrokerError)(str(refusal)) from refusal
        except BaseException:
            lane.channel.leave()
            self._lost(lane)
            raise
        self._drop_empty_lanes()

    def _arrive(self, lane: Lane, queue: str, incoming: Incoming) -> None:
        if self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(_IDLE, self._nobody_asks)
        self._waiting[queue].append((lane, incoming))
        self._arrived.set()

    def _take(self, limit: int) -> list[Delivery]:
        """One of each queue in turn."""
        taken: list[Delivery] = []
        idle = 0
        while len(taken) < limit and idle < len(self._queues):
            queue = self._queues[0]
            self._queues.rotate(-1)
            waiting = self._waiting[queue]
            if waiting:
                idle = 0
                taken.append(self._hand_out(queue, *waiting.popleft()))
            else:
                idle += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
            if any(self._waiting.values()):
                self._idle = asyncio.get_running_loop().call_later(_IDLE, self._nobody_asks)
        return taken

    def _nobody_asks(self) -> None:
        self._idle = None
        self._returning = asyncio.create_task(self._return_waiting())

    async def _return_waiting(self) -> None:
        try:
            await self._settling.run(self._give_back_waiting)
        except BrokerError as error:
            logger.info("could not give back what was pushed and not begun: %s", error)

    def _hand_out(self, queue: str, lane: Lane, incoming: Incoming) -> Delivery:
        self._number += 1
        tag = f"{self._prefix}{self._number}"
        self._held[tag] = (lane, incoming.delivery_tag)
        message, redelivered, count, _ = read(incoming)
        return Delivery(tag, queue, message, redelivered, count, self._clock.monotonic())

    def _lost(self, lane: Lane) -> None:
        """The channel has ended: the server gives everything on it to others."""
        self._held = {tag: place for tag, place in self._held.items() if place[0] is not lane}
        self._forget_waiting(lane)
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._arrived.set()

    def _cancelled(self, lane: Lane) -> None:
        """The server has ended a consumer: its queue was deleted, or moves. Deliveries stay ours."""
        logger.info("RabbitMQ has cancelled a consumer; consuming anew")
        lane.end()
        self._topology.forget_all()
        self._arrived.set()

    # -- settling

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        acks: dict[Lane, list[int]] = {}
        back: dict[Lane, list[int]] = {}
        moves: list[tuple[Publication, str]] = []
        gone: list[Delivery] = []
        seen: set[str] = set()
        for settlement in settlements:
            tag = settlement.delivery.tag
            place = self._held.get(tag)
            if place is None or tag in seen:
                gone.append(settlement.delivery)
                continue
            seen.add(tag)
            lane, number = place
            match settlement:
                case Ack():
                    acks.setdefault(lane, []).append(number)
                case GiveBack() | Requeue(front=True) if (settlement.delivery.count or 0) <= _MOST_RETURNS:
                    back.setdefault(lane, []).append(number)
                case _:
                    moves.append((_elsewhere(settlement), tag))
        error = await self._move(moves, acks) if moves else None
        if back:
            await self._stop_pushing(back)
        lost = await self._tell(acks, back)
        if error is not None:
            raise error
        gone += [settlement.delivery for settlement in settlements if settlement.delivery.tag in lost]
        return gone

    async def _move(self, moves: Sequence[tuple[Publication, str]], acks: dict[Lane, list[int]]) -> Exception | None:
        """Publish what goes elsewhere, then let its deliveries be acknowledged; return why some did not go."""
        failures: dict[int, Exception] = {}
        error: Exception | None = None
        try:
            failures = await self._publisher.store([publication for publication, _ in moves])
        except BrokerError as refused:
            return refused
        for position, (_, tag) in enumerate(moves):
            if position in failures:
                error = failures[position]
            elif tag in self._held:  # else its connection was lost meanwhile: it comes twice
                lane, number = self._held[tag]
                acks.setdefault(lane, []).append(number)
        return error if error is None or isinstance(error, BrokerError) else BrokerError(str(error))

    async def _stop_pushing(self, back: dict[Lane, list[int]]) -> None:
        """Whoever consumes while messages return to their places would get them in disorder."""
        deadline = self._link.deadline()
        for lane in list(self._lanes):
            lane.end()
            await lane.channel.barrier(deadline)
        for waiting in self._waiting.values():
            for lane, incoming in waiting:
                back.setdefault(lane, []).append(incoming.delivery_tag)
            waiting.clear()

    async def _give_back_waiting(self) -> None:
        if any(self._waiting.values()) or self.closed:
            back: dict[Lane, list[int]] = {}
            await self._stop_pushing(back)
            await self._tell({}, back)

    async def _tell(self, acks: dict[Lane, list[int]], back: dict[Lane, list[int]]) -> set[str]:
        """Settle on the server, and wait until it has heard of it; return the tags of what was not ours any more.

        A lane that comes to its end meanwhile is nobody else's concern. What was sent is never sent again: on a channel
        that lives on, the server takes a second acknowledgement for a fault, and ends it.
        """
        deadline = self._link.deadline()
        lanes = [lane for lane in self._lanes if lane in acks or lane in back]
        told = {lane: {*acks.get(lane, ()), *back.get(lane, ())} for lane in lanes}
        places = {tag: place for tag, place in self._held.items() if place[1] in told.get(place[0], ())}
        for lane in lanes:
            lane.settle(acks.get(lane, ()), back.get(lane, ()))
            lane.forget(told[lane])
        self._held = {tag: place for tag, place in self._held.items() if tag not in places}
        heard = await asyncio.gather(*(lane.channel.barrier(deadline) for lane in lanes), return_exceptions=True)
        self._drop_empty_lanes()
        self._arrived.set()  # there may be room for a lane now
        ended = {lane for lane, answer in zip(lanes, heard, strict=True) if isinstance(answer, Refused)}
        for answer in heard:
            if isinstance(answer, BaseException) and not isinstance(answer, Refused):
                raise answer
        return {tag for tag, place in places.items() if place[0] in ended}

    # -- little helpers

    def _tell_of_overdue(self, since: float) -> None:
        numbers = Counter(queue for lane in self._lanes for queue in lane.overdue(since))
        for queue, number in numbers.items():
            logger.warning(
                "Deliveries from %s that have been unacknowledged for %d minutes: %d. After its consumer_timeout, 30 "
                "minutes as it comes, RabbitMQ gives them to others, and their tasks run twice; a time_limit below "
                "that, acks_late=False or a longer time-out would prevent it",
                queue,
                _OVERDUE // 60,
                number,
                extra={"queue": queue},
            )

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise BrokerConnectionError("the consumer is closed")

    def _forget_waiting(self, lane: Lane) -> None:
        for queue, waiting in self._waiting.items():
            self._waiting[queue] = deque(item for item in waiting if item[0] is not lane)

    def _drop_empty_lanes(self) -> None:
        for lane in [lane for lane in self._lanes if lane.ended and not lane.out]:
            self._lanes.remove(lane)
            lane.channel.leave()


def _elsewhere(settlement: Settlement) -> Publication:
    """The message that takes the place of a delivery."""
    delivery = settlement.delivery
    content = delivery.content
    if not isinstance(content, WireMessage):
        raise TypeError("a delivery of the AMQP broker has its message as content")
    match settlement:
        case Park(until=until):
            # It is a new message, of which AMQP doesn't know that somebody had it before.
            message = mark_redelivered(content) if delivery.redelivered else content
            return Publication(message=message, queue=delivery.queue, not_before=until)
        case Dead(letter=letter):
            return Publication(message=letter, queue=f"{delivery.queue}.dead")
        case _:
            return Publication(message=mark_redelivered(content), queue=delivery.queue)
