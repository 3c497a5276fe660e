"""What was published on a channel and is not confirmed yet. Bytes, numbers and futures; no server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from asyncq.errors import AsyncqError

from .errors import copied

__all__ = ["REFUSED", "UNROUTABLE", "Confirms", "Outgoing"]

#: Why the server has not taken a message. A nack does not say which of its reasons it has.
UNROUTABLE = "no queue takes it"
REFUSED = "RabbitMQ refused it: the queue is full, or has no leader at the moment"


class Outgoing(Struct, gc=False):
    """A message on its way. All of it is encoded, so that no member of a batch can fail when that is sent."""

    #: Exchange and routing key, from `encode_route`.
    route: bytes
    #: From `encode_content_header`.
    header: bytes
    body: bytes


class _Batch:
    """Messages that were published together, until the last of them is confirmed."""

    __slots__ = ("failures", "future", "missing")

    def __init__(self, missing: int, future: asyncio.Future[dict[int, str]]) -> None:
        self.missing = missing
        self.future = future
        #: Position -> why the server did not take it.
        self.failures: dict[int, str] = {}


class Confirms:
    """Numbers messages as AMQP does, and tells whoever published them what became of each."""

    def __init__(self) -> None:
        #: Numbers that are not confirmed, in order -> batch, position, message.
        self._unconfirmed: dict[int, tuple[_Batch, int, Outgoing]] = {}
        #: The highest numbers so far: of what was published, of what came back.
        self._published = self._returned = 0

    def expect(self, messages: Sequence[Outgoing], future: asyncio.Future[dict[int, str]]) -> None:
        """These are sent now. The future gets the positions of those that the server has not taken, and why."""
        batch = _Batch(len(messages), future)
        number = self._published
        for position, message in enumerate(messages):
            number += 1
            self._unconfirmed[number] = (batch, position, message)
        self._published = number
        if not messages:
            future.set_result({})

    def confirmed(self, number: int, *, multiple: bool, refused: bool) -> None:
        """The server has dealt with one message, or with all up to it."""
        unconfirmed = self._unconfirmed
        if not multiple:
            entries = [unconfirmed.pop(number)] if number in unconfirmed else []
        else:
            entries: list[tuple[_Batch, int, Outgoing]] = []
            while unconfirmed and (first := next(iter(unconfirmed))) <= number:
                entries.append(unconfirmed.pop(first))
        for batch, position, _ in entries:
            if refused:
                batch.failures[position] = REFUSED
            batch.missing -= 1
            if not batch.missing and not batch.future.done():
                batch.future.set_result(batch.failures)

    def returned(self, message: Outgoing) -> None:
        """A message came back: it does so before its confirm, without its number, and after those sent before it.

        It is the first equal one that hasn't come back. RabbitMQ takes the header BCC away, so where none is equal it
        is the first one that went the same way.
        """
        likely: int | None = None
        for number in range(self._returned + 1, self._published + 1):
            entry = self._unconfirmed.get(number)
            if entry is None or entry[2].route != message.route or entry[2].body != message.body:
                continue
            if entry[2].header == message.header:
                likely = number
                break
            likely = likely or number
        if likely is not None:
            batch, position, _ = self._unconfirmed[likely]
            batch.failures[position] = UNROUTABLE
            self._returned = likely

    def give_up(self, error: AsyncqError) -> None:
        """Tell those who wait that their messages' fate is unknown. The confirms may still come."""
        for batch, _, _ in self._unconfirmed.values():
            if not batch.future.done():
                batch.future.set_exception(copied(error))

    def fail(self, error: AsyncqError) -> None:
        """The end: no confirm will come any more."""
        self.give_up(error)
        self._unconfirmed.clear()
