"""One connection to an AMQP server, from birth to death, shared by any number of channels.

Frames are read and answered in the protocol's own callbacks, so a caller who is cancelled leaves nothing half read: its
reply is dropped when it comes. The first error, a reply that is overdue, or silence for two heartbeats ends the
connection for everybody; there is no second life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pamqp import commands

from asyncq.errors import AsyncqError, ConfigurationError

from .channel import Channel
from .endpoint import Endpoint
from .errors import Blocked, ConnectionLost, NoChannelLeft, copied, translate
from .frames import (
    FRAME_END,
    FRAME_HEAD,
    HEARTBEAT,
    METHOD,
    Closing,
    Index,
    encode_method,
    frame,
    read_closing,
    read_method,
)
from .heartbeat import Heartbeat
from .terms import Terms

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["Connection"]

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

_HEARTBEAT_FRAME = frame(HEARTBEAT, 0, b"")

#: Reply codes of a connection that is refused for what our URL says: no rights, no such virtual host.
_CONFIGURATION_CODES = (403, 530)

#: Seconds that messages may lie in the socket of a server that has run out of memory or disk.
_BLOCKED_PATIENCE = 3.0

#: Seconds that the other side gets to answer a close.
_CLOSE_TIMEOUT = 0.3


class Connection(asyncio.Protocol):
    """Made by `open`."""

    def __init__(self, endpoint: Endpoint, on_contact: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self.error: AsyncqError | None = None
        #: What was agreed on so far.
        self.terms = Terms()
        #: Why the server reads nothing from those who publish; None: it does.
        self.blocked: str | None = None
        #: Called once, when the connection has come to its end in whatever way but `close`.
        self.on_end: Callable[[], None] | None = None
        self._on_contact = on_contact
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._ready = False
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._channels: dict[int, Channel] = {}
        self._number = 0
        self._buffer = bytearray()
        self._outbox: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._heartbeat = Heartbeat(self.loop)

    @classmethod
    async def open(cls, endpoint: Endpoint, deadline: float, on_contact: Callable[[], None]) -> Connection:
        """Connect and log in, by the loop time `deadline`. Raises ConnectionLost, ConfigurationError."""
        connection = cls(endpoint, on_contact)
        try:
            async with asyncio.timeout_at(deadline):
                await endpoint.connect(connection)
                await connection._opened
        except BaseException as error:
            connection._opened.cancel()
            connection.fail(ConnectionLost(f"RabbitMQ at {endpoint.address} did not let us in"))
            if isinstance(error, OSError):  # TimeoutError is one
                raise translate(error, endpoint.address) from error
            raise
        return connection

    @property
    def alive(self) -> bool:
        return self.error is None

    async def channel(self, deadline: float) -> Channel:
        """Open a channel. Raises ConnectionLost, NoChannelLeft."""
        if self.error is not None:
            raise copied(self.error)
        if len(self._channels) >= self.terms.channel_max:
            address, most = self.endpoint.address, self.terms.channel_max
            raise NoChannelLeft(f"all {most} channels of the connection to RabbitMQ at {address} are in use")
        while True:
            self._number = self._number % self.terms.channel_max + 1
            if self._number not in self._channels:
                break
        channel = self._channels[self._number] = Channel(self, self._number)
        try:
            await channel.call(commands.Channel.Open(), deadline)
        except BaseException:
            channel.leave()
            raise
        return channel

    async def ready_to_publish(self, deadline: float) -> None:
        """Wait until what was written before is on its way. Raises Blocked, ConnectionLost."""
        if self.blocked is None and not self._writable.is_set():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._writable.wait()
            except TimeoutError:
                self.fail(ConnectionLost(f"RabbitMQ at {self.endpoint.address} reads nothing"))
        if self.error is not None:
            raise copied(self.error)
        if self.blocked is not None:
            raise Blocked(f"RabbitMQ at {self.endpoint.address} takes no messages at the moment: {self.blocked}")

    def write(self, data: bytes) -> None:
        """Send bytes; all of one loop turn go out in one write."""
        if not self._outbox:
            self.loop.call_soon(self._flush)
        self._outbox.append(data)

    def forget(self, channel: Channel) -> None:
        """A channel has ended."""
        self._channels.pop(channel.number, None)

    def too_late(self, reply: asyncio.Future[Any]) -> None:
        """A reply is overdue: the connection is given up, unless the server has blocked it."""
        if self.blocked is None:
            self.fail(ConnectionLost(f"RabbitMQ at {self.endpoint.address} did not answer in time"))
        elif not reply.done():
            reply.set_exception(_stuck(self.endpoint.address, self.blocked))

    def fail(self, error: AsyncqError, cause: BaseException | None = None) -> None:
        """The end: everybody who waits is told, nothing more is accepted."""
        if self.error is not None:
            return
        error.__cause__ = cause
        self.error = error
        self._heartbeat.stop()
        if not self._opened.done():
            self._opened.set_exception(error)
        for channel in list(self._channels.values()):
            channel.fail(error)
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()
        elif not self._closed.done():
            self._closed.set_result(None)
        if self.on_end is not None:
            self.on_end()

    async def close(self) -> None:
        """End the connection in order, or after a moment without. May be called again."""
        self.on_end = None
        if self.error is None:
            self._send(commands.Connection.Close(200, "", 0, 0))
            await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT)
        self.fail(ConnectionLost(f"the connection to RabbitMQ at {self.endpoint.address} is closed"))
        await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT)

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.error is not None:  # given up meanwhile
            self._transport.abort()
            return
        self.write(_PROTOCOL_HEADER)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self.fail(translate(exc, self.endpoint.address), exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._heartbeat.heard = self.loop.time()
        self._on_contact()
        buffer = self._buffer
        buffer += data
        size, position = len(buffer), 0
        with memoryview(buffer) as view:
            while size - position >= 8:
                kind, number, length = FRAME_HEAD.unpack_from(view, position)
                end = position + 7 + length
                if end >= size:
                    break
                if view[end] != FRAME_END:
                    self.fail(_malformed(bytes(view[:8]), self.endpoint.address))
                    return
                payload = bytes(view[position + 7 : end])
                position = end + 1
                if number:
                    channel = self._channels.get(number)
                    if channel is not None:
                        channel.receive(kind, payload)
                elif kind == METHOD:
                    self._method(int.from_bytes(payload[:4]), payload)
        del buffer[:position]

    # -- the connection's own methods

    def _method(self, index: int, payload: bytes) -> None:
        match index:
            case Index.START:
                start = read_method(payload)
                self.terms = self.terms.with_start(start)
                self._send(self.endpoint.start_ok(start))
            case Index.TUNE:
                self._tune(read_method(payload))
            case Index.OPEN_OK:
                self._ready = True
                if not self._opened.done():
                    self._opened.set_result(None)
            case Index.BLOCKED:
                self.blocked = read_method(payload).reason or "blocked"
                # It comes with the first message that is not read any more.
                self.loop.call_later(_BLOCKED_PATIENCE, self._give_up)
            case Index.UNBLOCKED:
                self.blocked = None
            case Index.CONNECTION_CLOSE:
                self._send(commands.Connection.CloseOk())
                self._flush()
                self.fail(_reason(read_closing(payload), self.endpoint.address, ready=self._ready))
            case Index.CONNECTION_CLOSE_OK:
                self.fail(ConnectionLost(f"the connection to RabbitMQ at {self.endpoint.address} is closed"))
            case _:
                pass

    def _tune(self, tune: Any) -> None:  # Any: pamqp's Connection.Tune
        terms = self.terms = self.terms.with_tune(tune, self.endpoint.heartbeat)
        self._send(commands.Connection.TuneOk(terms.channel_max, terms.frame_max, terms.heartbeat))
        self._send(commands.Connection.Open(virtual_host=self.endpoint.vhost))
        self._heartbeat.start(
            terms.heartbeat,
            beat=lambda: self.write(_HEARTBEAT_FRAME),
            on_silence=lambda: self.fail(
                ConnectionLost(f"RabbitMQ at {self.endpoint.address} was silent for two heartbeats")
            ),
        )

    def _give_up(self) -> None:
        if self.blocked is not None:
            for channel in self._channels.values():
                channel.give_up(_stuck(self.endpoint.address, self.blocked))

    def _send(self, method: Frame) -> None:
        self.write(encode_method(method, 0))

    def _flush(self) -> None:
        if self._outbox and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outbox))
            self._heartbeat.said = self.loop.time()
        self._outbox.clear()


def _reason(closing: Closing, address: str, *, ready: bool) -> AsyncqError:
    """What a connection that the server closes ends with; `ready` says that it had let us in."""
    text = f"RabbitMQ at {address} closes the connection: {closing.code} {closing.text}"
    if closing.code in _CONFIGURATION_CODES and not ready:
        return ConfigurationError(text)
    return ConnectionLost(text)


def _stuck(address: str, reason: str) -> ConnectionLost:
    """What was sent before the server told of its need, and lies in its socket until that has ended."""
    return ConnectionLost(f"RabbitMQ at {address} reads nothing at the moment: {reason}")


def _malformed(start: bytes, address: str) -> AsyncqError:
    if start.startswith(b"AMQP"):
        return ConfigurationError(f"what answers at {address} speaks another AMQP than 0-9-1")
    return ConnectionLost(f"RabbitMQ at {address} sent a malformed frame")
