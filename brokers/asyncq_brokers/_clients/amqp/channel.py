"""One channel of a connection: calls and their replies in order, publishing with confirms, deliveries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from struct import Struct as Layout
from struct import pack
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct
from pamqp import commands

from asyncq.errors import AsyncqError, ConfigurationError

from .confirms import Confirms, Outgoing
from .content import body_size
from .errors import ConnectionLost, Refused, copied
from .frames import (
    BODY,
    HEADER,
    METHOD,
    Index,
    encode_content_frames,
    encode_method,
    encode_publish,
    frame,
    read_closing,
    read_method,
)
from .tables import read_short, skip_short

if TYPE_CHECKING:
    from pamqp.base import Frame

    from .connection import Connection

__all__ = ["Channel", "Incoming"]

_T = TypeVar("_T")

_TAG = Layout(">QB")


class Incoming(Struct, gc=False):
    """A message that the server sent, not yet taken apart."""

    #: "" for what was asked for by `get`.
    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    header: bytes
    body: bytes


class Channel:
    """Made by `Connection.channel`. The first refusal ends it, as AMQP has it; the connection goes on."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.error: AsyncqError | None = None
        #: Called with each message that is pushed.
        self.on_delivery: Callable[[Incoming], None] = _ignore
        #: Called with the tag of a consumer that the server has cancelled.
        self.on_cancel: Callable[[str], None] = _ignore
        #: Called once, when the channel has come to its end in whatever way but `close`.
        self.on_end: Callable[[], None] = _ignore_end
        #: Unacknowledged messages for each consumer that begins from now on; 0 is no bound. Set with `basic.qos`.
        self.window = 0
        self._left = False
        self._replies: deque[asyncio.Future[Any]] = deque()
        # Content that is still coming: which method, its fields, the header, the rest of the body.
        self._method_of_content = (0, b"")
        self._header = b""
        self._body: list[bytes] = []
        self._missing = 0
        self._confirms = Confirms()

    # -- calls

    async def call(self, method: Frame, deadline: float) -> Any:  # Any: the reply that belongs to the method
        """Send a method and wait for its reply. Raises Refused, ConnectionLost."""
        return await self.answer(self.post(method), deadline)

    async def calls(self, methods: Sequence[Frame], deadline: float) -> list[Any]:
        """Send methods in one go and wait for all replies. Raises the first refusal, which has ended the channel."""
        replies = [self.post(method) for method in methods]
        answers: list[Any] = []
        try:
            for reply in replies:
                answers.append(await self.answer(reply, deadline))  # noqa: PERF401 - a comprehension would lose its place
        except BaseException:
            for reply in replies[len(answers) :]:  # they fail with it, and nobody waits for them
                reply.cancel()
            raise
        return answers

    def post(self, method: Frame) -> asyncio.Future[Any]:
        """Send a method that has a reply; `answer` waits for it. Several may be under way."""
        reply: asyncio.Future[Any] = self.connection.loop.create_future()
        self.send(method)
        self._replies.append(reply)
        return reply

    async def answer(self, reply: asyncio.Future[_T], deadline: float) -> _T:
        """Wait for a reply until the loop time `deadline`; then the whole connection is given up.

        But one that the server has blocked lives on: it tells us when it is of use again.
        """
        timer = self.connection.loop.call_at(deadline, self.connection.too_late, reply)
        try:
            return await reply
        finally:
            timer.cancel()

    def send(self, method: Frame) -> None:
        """Send a method that has no reply, or whose reply nobody waits for."""
        self.ensure_open()
        try:
            encoded = encode_method(method, self.number)
        except ValueError as error:
            raise ConfigurationError(f"AMQP does not allow that name: {error}") from error
        self.connection.write(encoded)

    def ensure_open(self) -> None:
        """Raise what has ended the channel. On one that is closed the server takes any method for a fault, and ends
        the whole connection.
        """
        if self.error is not None:
            raise copied(self.error)
        if self._left:
            raise ConnectionLost("the channel is closed")

    def leave(self) -> None:
        """End it without waiting; what was delivered on it and not acknowledged goes back. May be called again."""
        if self.error is None and not self._left:
            self.on_end = _ignore_end
            self.on_delivery = self.on_cancel = _ignore
            self.post(commands.Channel.Close(200, "", 0, 0)).cancel()
            self._left = True

    def barrier(self, deadline: float) -> Coroutine[Any, Any, None]:
        """To be awaited until the server has dealt with all that was sent on this channel before this call.

        It asks at once, not only when it is awaited: by then somebody may have left the channel. What it raises, it
        raises where it is awaited.
        """
        try:
            reply = self.post(commands.Basic.Qos(0, self.window))
        except AsyncqError as error:
            reply = self.connection.loop.create_future()
            reply.set_exception(error)
        return self._heard(reply, deadline)

    async def _heard(self, reply: asyncio.Future[Any], deadline: float) -> None:
        await self.answer(reply, deadline)

    # -- publishing

    async def confirm(self, deadline: float) -> None:
        """From now on the server confirms what is published."""
        await self.call(commands.Confirm.Select(), deadline)

    def publish(self, messages: Sequence[Outgoing]) -> asyncio.Future[dict[int, str]]:
        """Send messages, all in one write, on a channel that confirms.

        The future gives, once all are confirmed, the positions that the server has not taken and why.
        """
        self.ensure_open()
        future: asyncio.Future[dict[int, str]] = self.connection.loop.create_future()
        most = self.connection.terms.payload_max
        parts: list[bytes] = []
        for message in messages:
            parts.append(encode_publish(message.route, self.number))
            encode_content_frames(parts, message.header, message.body, self.number, most)
        self._confirms.expect(messages, future)
        self.connection.write(b"".join(parts))
        return future

    def give_up(self, error: AsyncqError) -> None:
        """Tell those who wait for confirms that their fate is unknown. The confirms may still come."""
        self._confirms.give_up(error)

    # -- settling

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it."""
        self._settle(pack(">HHQB", 60, 80, delivery_tag, multiple))

    def requeue(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Give one delivery back to where it stood, or all up to it."""
        self._settle(pack(">HHQB", 60, 120, delivery_tag, multiple | 2))

    def _settle(self, payload: bytes) -> None:
        self.ensure_open()
        self.connection.write(frame(METHOD, self.number, payload))

    # -- what the server sends

    def receive(self, kind: int, payload: bytes) -> None:
        """Take a frame of this channel."""
        if kind == METHOD:
            self._method(int.from_bytes(payload[:4]), payload)
        elif kind == HEADER:
            self._header = payload
            self._missing = body_size(payload)
            if not self._missing:
                self._content_complete()
        elif kind == BODY:
            self._body.append(payload)
            self._missing -= len(payload)
            if self._missing <= 0:
                self._content_complete()

    def fail(self, error: AsyncqError) -> None:
        """The end: whoever waits is told."""
        if self.error is not None:
            return
        self.error = error
        replies = list(self._replies)
        self._replies.clear()
        for reply in replies:
            if not reply.done():
                reply.set_exception(copied(error))
        self._confirms.fail(error)
        self.connection.forget(self)
        self.on_end()

    def _method(self, index: int, payload: bytes) -> None:
        match index:
            case Index.DELIVER | Index.GET_OK | Index.RETURN:
                self._method_of_content = (index, payload)
            case Index.ACK | Index.NACK:
                tag, bits = _TAG.unpack_from(payload, 4)
                self._confirms.confirmed(tag, multiple=bool(bits & 1), refused=index == Index.NACK)
            case Index.CANCEL:
                tag = payload[5 : 5 + payload[4]].decode()
                self.on_cancel(tag)
            case Index.CHANNEL_CLOSE:
                closing = read_closing(payload)
                self.connection.write(encode_method(commands.Channel.CloseOk(), self.number))
                self.fail(Refused(closing.code, closing.text, closing.method))
            case Index.FLOW:  # RabbitMQ does not send it
                self.connection.write(encode_method(commands.Channel.FlowOk(active=True), self.number))
            case _:
                self._replied(read_method(payload))
                if index == Index.CHANNEL_CLOSE_OK:
                    self.fail(ConnectionLost("the channel is closed"))

    def _replied(self, value: Any) -> None:
        if self._replies:
            reply = self._replies.popleft()
            if not reply.done():  # whoever asked may have been cancelled
                reply.set_result(value)

    def _content_complete(self) -> None:
        index, method = self._method_of_content
        header, body = self._header, self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._header, self._body = b"", []
        if index == Index.DELIVER:
            tag_end = skip_short(method, 4)
            tag, bits = _TAG.unpack_from(method, tag_end)
            exchange, offset = read_short(method, tag_end + 9)
            key, _ = read_short(method, offset)
            consumer = method[5:tag_end].decode()
            self.on_delivery(Incoming(consumer, tag, bool(bits & 1), exchange, key, header, body))
        elif index == Index.GET_OK:
            tag, bits = _TAG.unpack_from(method, 4)
            exchange, offset = read_short(method, 13)
            key, _ = read_short(method, offset)
            self._replied(Incoming("", tag, bool(bits & 1), exchange, key, header, body))
        else:
            self._confirms.returned(Outgoing(method[skip_short(method, 6) :], header, body))


def _ignore(_: object) -> None:
    """Nobody listens."""


def _ignore_end() -> None:
    """Nobody listens."""
