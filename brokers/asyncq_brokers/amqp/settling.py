"""What becomes of deliveries: told to the server lane by lane, published where they go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from asyncq.driver import Ack, Dead, Delivery, GiveBack, Park, Publication, Requeue, Settlement
from asyncq.errors import BrokerError
from asyncq.protocol import WireMessage
from asyncq_brokers._clients.amqp import Link, Refused

from .intake import Intake
from .lane import Lane
from .messages import mark_redelivered
from .publishing import Publisher

__all__ = ["Settling"]

#: Deliveries of one message from a quorum queue after which it is published anew instead of put back: from 4.0 on,
#: RabbitMQ drops what has come back 20 times, unless it is told otherwise.
_MOST_RETURNS = 10


class Settling:
    """Knows what was handed out, and settles it."""

    def __init__(self, intake: Intake, publisher: Publisher, link: Link) -> None:
        self._intake = intake
        self._publisher = publisher
        self._link = link
        #: Tags of what was handed out -> its lane, its delivery tag there.
        self._places: dict[str, tuple[Lane, int]] = {}

    def hand_out(self, tag: str, lane: Lane, number: int) -> None:
        """Somebody has it from now on, under this tag."""
        self._places[tag] = (lane, number)

    def lane_of(self, tag: str) -> Lane | None:
        """The lane of what is out and ours; None for what is not."""
        place = self._places.get(tag)
        if place is None or place[0].alive:
            return None if place is None else place[0]
        del self._places[tag]  # the server has given it to others
        return None

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """As `Consumer.settle`."""
        ours: dict[str, Settlement] = {}
        for settlement in settlements:
            if self.lane_of(settlement.delivery.tag) is not None:
                ours.setdefault(settlement.delivery.tag, settlement)
        moves = [s for s in ours.values() if not isinstance(s, Ack) and not _goes_back(s)]
        stuck, error = await self._move(moves) if moves else (set[str](), None)
        moved = {s.delivery.tag for s in moves} - stuck
        waiting: dict[Lane, list[int]] = {}
        if queues := {s.delivery.queue for s in ours.values() if _goes_back(s)}:
            waiting = await self._intake.stop(queues)
        told = [s for tag, s in ours.items() if tag not in stuck and self.lane_of(tag) is not None]
        done = await self._tell(told, waiting)
        if error is not None:
            raise error
        # What was published elsewhere is settled, though it may come twice.
        settled = done | moved
        return [s.delivery for s in settlements if ours.get(s.delivery.tag) is not s or s.delivery.tag not in settled]

    async def return_waiting(self) -> None:
        """Give back what has come and was not handed out."""
        await self._tell((), await self._intake.stop_all())

    async def _move(self, moves: Sequence[Settlement]) -> tuple[set[str], BrokerError | None]:
        """Publish what goes elsewhere; return the tags of what did not go, and why."""
        tags = [settlement.delivery.tag for settlement in moves]
        try:
            failures = await self._publisher.store([_elsewhere(settlement) for settlement in moves])
        except BrokerError as refused:
            return set(tags), refused
        error = next(reversed(failures.values()), None)
        if error is not None and not isinstance(error, BrokerError):
            error = BrokerError(str(error))
        return {tags[position] for position in failures}, error

    async def _tell(self, settlements: Sequence[Settlement], waiting: Mapping[Lane, Sequence[int]]) -> set[str]:
        """Settle on the server, and wait until it has heard of it; return the tags of what was still ours.

        A lane that comes to its end meanwhile is nobody else's concern. What was sent is never sent again: on a channel
        that lives on, the server takes a second acknowledgement for a fault, and ends it.
        """
        deadline = self._link.deadline()
        acks: dict[Lane, list[int]] = {}
        back = {lane: list(numbers) for lane, numbers in waiting.items() if lane.alive}
        tags: dict[Lane, set[str]] = {lane: set() for lane in back}
        for settlement in settlements:
            tag = settlement.delivery.tag
            lane, number = self._places.pop(tag)
            (back if _goes_back(settlement) else acks).setdefault(lane, []).append(number)
            tags.setdefault(lane, set()).add(tag)
        for lane in tags:
            lane.settle(acks.get(lane, ()), back.get(lane, ()))
            lane.forget([*acks.get(lane, ()), *back.get(lane, ())])
        heard = await asyncio.gather(*(lane.channel.barrier(deadline) for lane in tags), return_exceptions=True)
        self._intake.drop_empty_lanes()
        self._intake.changed.set()  # there may be room for a lane now
        done: set[str] = set()
        for own, answer in zip(tags.values(), heard, strict=True):
            if answer is None:
                done |= own
            elif not isinstance(answer, Refused):
                raise answer
        return done


def _goes_back(settlement: Settlement) -> bool:
    """To where it stood."""
    wanted = isinstance(settlement, GiveBack) or (isinstance(settlement, Requeue) and settlement.front)
    return wanted and (settlement.delivery.count or 0) <= _MOST_RETURNS


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
