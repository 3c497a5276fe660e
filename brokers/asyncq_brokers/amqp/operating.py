"""What an operator does without consuming: depth, purge, peek, move, drop. AMQP alone, no management plugin.

AMQP can't look at a message without taking it. So whoever peeks takes messages for a moment and puts them back, to
where they stood unless somebody else takes from the queue meanwhile. They come out as delivered before, and a quorum
queue counts that, up to a limit where one is set; what nears it is published anew. Parked messages stand in the delay
queues that all queues share, and are found by looking through these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from heapq import nsmallest
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from pamqp import commands

from asyncq.driver import Place, Publication, QueueDepth, Stored
from asyncq.errors import BrokerError, PublishError
from asyncq.protocol import WireMessage
from asyncq_brokers._clients.amqp import Channel, Incoming, Link, Refused
from asyncq_brokers._clients.unbroken import Unbroken

from .delays import LEVELS, PREFIXES, level_name, split_key
from .messages import key_of, mark_redelivered, read, until_of
from .publishing import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Operator"]

#: Messages that are asked for in one go.
_PAGE = 100

#: Deliveries of a message after which it is published anew instead of put back. RabbitMQ 4 drops from a quorum queue
#: what has come back 20 times, unless it is told otherwise; out of a delay queue it would fall, and be early.
_MOST_RETURNS = 10


class _Found(Struct):
    """A message that is taken for a moment."""

    delivery_tag: int
    message: WireMessage
    #: Where it belongs.
    queue: str
    key: str
    until: float | None
    #: It is better published anew than put back.
    worn: bool


#: Does something with messages, and returns those that are to leave their place.
_Deal: TypeAlias = Callable[[Sequence[_Found]], Awaitable[Sequence[_Found]]]


class Operator:
    """Looks at queues and changes them. One operation at a time, each to its end."""

    def __init__(self, link: Link, publisher: Publisher) -> None:
        self._link = link
        self._publisher = publisher
        self._steps = Unbroken()

    async def depth(self, queue: str) -> QueueDepth:
        return await self._steps.run(lambda: self._depth(queue))

    async def purge(self, queue: str) -> int:
        return await self._steps.run(lambda: self._purge(queue))

    async def peek(self, queue: str, place: Place, limit: int, offset: int) -> list[Stored]:
        found = await self._steps.run(lambda: self._peek(queue, place, offset + max(0, limit)))
        return [
            Stored(key=one.key, queue=queue, content=one.message, until=one.until)
            for one in found[offset : offset + limit]
        ]

    async def move(self, queue: str, place: Place, keys: Sequence[str], until: float | None) -> int:
        async def publish(found: Sequence[_Found]) -> Sequence[_Found]:
            batch = [Publication(message=one.message, queue=queue, not_before=until) for one in found]
            failures = await self._publisher.store(batch)
            if len(failures) == len(batch) and failures:
                raise PublishError(failures)
            return [one for number, one in enumerate(found) if number not in failures]

        return await self._steps.run(lambda: self._take_out(queue, place, keys, publish))

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        async def nothing(found: Sequence[_Found]) -> Sequence[_Found]:
            return found

        return await self._steps.run(lambda: self._take_out(queue, place, keys, nothing))

    async def _depth(self, queue: str) -> QueueDepth:
        dead = await self._ready(f"{queue}.dead")
        return QueueDepth(ready=await self._ready(queue) or 0, in_flight=None, parked=None, dead=dead or 0)

    async def _ready(self, queue: str) -> int | None:
        """Messages of a queue that nobody holds; None when there is no such queue."""
        deadline = self._link.deadline()
        async with self._channel(deadline) as channel:
            try:
                declared = await channel.call(commands.Queue.Declare(0, queue, passive=True), deadline)
            except Refused as refusal:
                if refusal.code != Refused.NOT_FOUND:
                    raise
                return None
            return declared.message_count

    async def _purge(self, queue: str) -> int:
        deadline = self._link.deadline()
        async with self._channel(deadline) as channel:
            try:
                return (await channel.call(commands.Queue.Purge(0, queue), deadline)).message_count
            except Refused as refusal:
                if refusal.code != Refused.NOT_FOUND:
                    raise
                return 0

    async def _peek(self, queue: str, place: Place, most: int) -> list[_Found]:
        found: list[_Found] = []
        for source in await self._sources(queue, place):
            async with self._channel(self._link.deadline()) as channel:
                worn: list[_Found] = []
                # The levels are in no order among each other: all of each is looked at.
                async for page in self._pages(channel, source, queue, place, None if place == "parked" else most):
                    worn += [one for one in page if one.worn]
                    found += [one for one in page if one.queue == queue]
                    if place == "parked":
                        found = nsmallest(most, found, key=_due)
                await self._put_back(channel, source, place, worn)
        return found

    async def _take_out(self, queue: str, place: Place, keys: Sequence[str], deal: _Deal) -> int:
        """Take the messages that the keys name, as many as the keys, and put all others back."""
        wanted = Counter(keys)
        taken = 0
        for source in await self._sources(queue, place):
            if not +wanted:
                break
            async with self._channel(self._link.deadline()) as channel:
                meant: list[_Found] = []
                worn: list[_Found] = []
                async for page in self._pages(channel, source, queue, place, None):
                    for one in page:
                        if one.queue == queue and wanted[one.key] > 0:
                            wanted[one.key] -= 1
                            meant.append(one)
                        elif one.worn:
                            worn.append(one)
                done: Sequence[_Found] = await deal(sorted(meant, key=_due)) if meant else []
                for one in done:
                    channel.ack(one.delivery_tag)
                await self._put_back(channel, source, place, worn)
                taken += len(done)
        return taken

    async def _sources(self, queue: str, place: Place) -> list[str]:
        """The queues in which messages of a place stand."""
        if place == "ready":
            return [queue]
        if place == "dead":
            return [f"{queue}.dead"]
        levels: list[str] = []
        for prefix in PREFIXES:
            if await self._ready(level_name(prefix, LEVELS - 1)) is not None:
                levels += [level_name(prefix, level) for level in range(LEVELS)]
        return levels

    async def _pages(
        self, channel: Channel, source: str, queue: str, place: Place, most: int | None
    ) -> AsyncGenerator[list[_Found]]:
        """Take messages, `most` at most or all that stand there now. `queue` is theirs where nothing else is said."""
        ready = await self._ready(source)
        if ready is None:
            return
        # A quorum queue's count lags behind; its end is told by an empty answer. The bound is for a queue that grows.
        left = 2 * ready + _PAGE if most is None else most
        page = min(left, ready + 1, _PAGE)
        while left > 0:
            gets = [commands.Basic.Get(0, source) for _ in range(page)]
            answers = await channel.calls(gets, self._link.deadline())
            yield [_found(each, queue, place) for each in answers if isinstance(each, Incoming)]
            if not all(isinstance(each, Incoming) for each in answers):
                return
            left -= page
            page = min(left, _PAGE)

    async def _put_back(self, channel: Channel, source: str, place: Place, worn: Sequence[_Found]) -> None:
        """Everything that is still out on the channel, to where it stood; what is worn, behind the others."""
        if worn:
            batch = [
                Publication(
                    message=mark_redelivered(one.message),
                    queue=one.queue if place == "parked" else source,
                    not_before=one.until,
                )
                for one in worn
            ]
            try:
                failures = await self._publisher.store(batch)
            except BrokerError:  # a full server: they are looked at again some other time
                failures = range(len(batch))
            for number, one in enumerate(worn):
                if number not in failures:
                    channel.ack(one.delivery_tag)
        channel.requeue(0, multiple=True)
        await channel.barrier(self._link.deadline())

    @asynccontextmanager
    async def _channel(self, deadline: float) -> AsyncGenerator[Channel]:
        channel = await self._link.channel(deadline)
        try:
            yield channel
        finally:
            channel.leave()


def _found(incoming: Incoming, queue: str, place: Place) -> _Found:
    message, _, count, until = read(incoming)
    worn = (count or 0) > _MOST_RETURNS
    due = None
    if place == "parked":
        queue = split_key(incoming.routing_key) or ""
        due = until_of(message, until)
        worn = worn and until is not None  # what asyncq has parked: others' keys need not be names of queues
    return _Found(incoming.delivery_tag, message, queue, key_of(message, due), due, worn)


def _due(one: _Found) -> float:
    return one.until or 0.0
