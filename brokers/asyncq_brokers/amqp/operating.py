"""What an operator does without consuming: depth, purge, peek, move, drop. AMQP alone, no management plugin.

AMQP can't look at a message without taking it. So whoever peeks takes messages for a moment and puts them back to
where they stood: they come out as delivered before, and a quorum queue counts that. Parked messages stand in the delay
queues that all queues share, and are found by looking through these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from pamqp import commands

from asyncq.driver import Place, Publication, QueueDepth, Stored
from asyncq.errors import PublishError
from asyncq.protocol import WireMessage
from asyncq_brokers._clients.amqp import Channel, Incoming, Link, Refused
from asyncq_brokers._clients.unbroken import Unbroken

from .delays import LEVELS, PREFIXES, level_name, split_key
from .messages import key_of, read, until_of
from .publishing import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Operator"]

#: Messages that are asked for in one go.
_PAGE = 100

_NOT_FOUND = 404


class _Found(Struct):
    """A message that is taken for a moment."""

    delivery_tag: int
    message: WireMessage
    key: str
    until: float | None = None


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
                if refusal.code != _NOT_FOUND:
                    raise
                return None
            return declared.message_count

    async def _purge(self, queue: str) -> int:
        deadline = self._link.deadline()
        async with self._channel(deadline) as channel:
            try:
                return (await channel.call(commands.Queue.Purge(0, queue), deadline)).message_count
            except Refused as refusal:
                if refusal.code != _NOT_FOUND:
                    raise
                return 0

    async def _peek(self, queue: str, place: Place, most: int) -> list[_Found]:
        found: list[_Found] = []
        for source in await self._sources(queue, place):
            async with self._channel(self._link.deadline()) as channel:
                # The levels are in no order among each other: all of each is looked at.
                found += await self._look(channel, source, queue, place, None if place == "parked" else most)
                await self._put_back(channel)
        return sorted(found, key=lambda one: one.until or 0.0) if place == "parked" else found

    async def _take_out(self, queue: str, place: Place, keys: Sequence[str], deal: _Deal) -> int:
        """Take the messages that the keys name, as many as the keys, and put all others back."""
        wanted = Counter(keys)
        taken = 0
        for source in await self._sources(queue, place):
            if not +wanted:
                break
            async with self._channel(self._link.deadline()) as channel:
                meant: list[_Found] = []
                for one in await self._look(channel, source, queue, place, None):
                    if wanted[one.key] > 0:
                        wanted[one.key] -= 1
                        meant.append(one)
                done: Sequence[_Found] = await deal(sorted(meant, key=lambda one: one.until or 0.0)) if meant else []
                for one in done:
                    channel.ack(one.delivery_tag)
                await self._put_back(channel)
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

    async def _look(self, channel: Channel, source: str, queue: str, place: Place, most: int | None) -> list[_Found]:
        """Take messages, `most` at most or all that stand there now, and say which belong to the queue's place."""
        ready = await self._ready(source)
        if ready is None:
            return []
        # A quorum queue's count lags behind; its end is told by an empty answer. The bound is for a queue that grows.
        left = 2 * ready + _PAGE if most is None else most
        page = min(left, ready + 1, _PAGE)
        found: list[_Found] = []
        while left > 0:
            gets = [commands.Basic.Get(0, source) for _ in range(page)]
            for incoming in await channel.calls(gets, self._link.deadline()):
                if not isinstance(incoming, Incoming):
                    left = 0
                elif place != "parked" or split_key(incoming.routing_key) == queue:
                    found.append(_found(incoming, place))
            left -= page
            page = min(left, _PAGE)
        return found

    async def _put_back(self, channel: Channel) -> None:
        """Everything that is still out on the channel, to where it stood."""
        channel.requeue(0, multiple=True)
        await channel.barrier(self._link.deadline())

    @asynccontextmanager
    async def _channel(self, deadline: float) -> AsyncGenerator[Channel]:
        channel = await self._link.channel(deadline)
        try:
            yield channel
        finally:
            channel.leave()


def _found(incoming: Incoming, place: Place) -> _Found:
    message, _, _, until = read(incoming)
    due = until_of(message, until) if place == "parked" else None
    return _Found(incoming.delivery_tag, message, key_of(message, due), due)
