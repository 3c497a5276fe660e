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

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["Connection"]

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

#: What RabbitMQ offers by default; a server with less is obeyed.
_FRAME_MAX = 131_072
_CHANNEL_MAX = 2047

#: RabbitMQ's default for a message's body, up to 3.13 and from 4.0 on.
_BODY_MAX, _BODY_MAX_OF_4 = 128 * 1024 * 1024, 16 * 1024 * 1024

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
        self.frame_max = _FRAME_MAX
        #: Bytes of a message's body that the server takes.
        self.body_max = _BODY_MAX
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
        self._channel_max = _CHANNEL_MAX
        self._number = 0
        self._buffer = bytearray()
        self._outbox: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._heartbeat = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self._heard = self._said = self.loop.time()

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
    def header_max(self) -> int:
        """Bytes of a content header, which has to fit into one frame."""
        return self.frame_max - 8

    @property
    def alive(self) -> bool:
        return self.error is None

    async def channel(self, deadline: float) -> Channel:
        """Open a channel. Raises ConnectionLost, NoChannelLeft."""
        if self.error is not None:
            raise copied(self.error)
        if len(self._channels) >= self._channel_max:
            raise NoChannelLeft(
                f"all {self._channel_max} channels of the connection to RabbitMQ at {self.endpoint.address} are in use"
            )
        while True:
            self._number = self._number % self._channel_max + 1
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
            reply.set_exception(self._stuck())

    def fail(self, error: AsyncqError, cause: BaseException | None = None) -> None:
        """The end: everybody who waits is told, nothing more is accepted."""
        if self.error is not None:
            return
        error.__cause__ = cause
        self.error = error
        if self._beat is not None:
            self._beat.cancel()
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
        self._heard = self.loop.time()
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
                    self._malformed(bytes(view[:8]))
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
                self.body_max = _body_max(start.server_properties.get("version"))
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
                self.fail(self._reason(read_closing(payload)))
            case Index.CONNECTION_CLOSE_OK:
                self.fail(ConnectionLost(f"the connection to RabbitMQ at {self.endpoint.address} is closed"))
            case _:
                pass

    def _tune(self, tune: Any) -> None:  # Any: pamqp's Connection.Tune
        self.frame_max = min(_FRAME_MAX, tune.frame_max or _FRAME_MAX)
        self._channel_max = min(_CHANNEL_MAX, tune.channel_max or _CHANNEL_MAX)
        offered = [seconds for seconds in (tune.heartbeat, self.endpoint.heartbeat) if seconds]
        heartbeat = min(offered, default=0)
        self._send(commands.Connection.TuneOk(self._channel_max, self.frame_max, heartbeat))
        self._send(commands.Connection.Open(virtual_host=self.endpoint.vhost))
        if heartbeat:
            self._heartbeat = float(heartbeat)
            self._tick()

    def _give_up(self) -> None:
        if self.blocked is not None:
            for channel in self._channels.values():
                channel.give_up(self._stuck())

    def _stuck(self) -> ConnectionLost:
        """What was sent before the server told of its need, and lies in its socket until that has ended."""
        return ConnectionLost(f"RabbitMQ at {self.endpoint.address} reads nothing at the moment: {self.blocked}")

    def _reason(self, closing: Closing) -> AsyncqError:
        text = f"RabbitMQ at {self.endpoint.address} closes the connection: {closing.code} {closing.text}"
        if closing.code in _CONFIGURATION_CODES and not self._ready:
            return ConfigurationError(text)
        return ConnectionLost(text)

    def _malformed(self, start: bytes) -> None:
        if start.startswith(b"AMQP"):
            error = f"what answers at {self.endpoint.address} speaks another AMQP than 0-9-1"
            self.fail(ConfigurationError(error))
        else:
            self.fail(ConnectionLost(f"RabbitMQ at {self.endpoint.address} sent a malformed frame"))

    def _tick(self) -> None:
        now = self.loop.time()
        if now - self._heard > 2 * self._heartbeat:
            self.fail(ConnectionLost(f"RabbitMQ at {self.endpoint.address} was silent for two heartbeats"))
            return
        if now - self._said >= self._heartbeat / 2:
            self.write(_HEARTBEAT_FRAME)
        self._beat = self.loop.call_later(self._heartbeat / 2, self._tick)

    def _send(self, method: Frame) -> None:
        self.write(encode_method(method, 0))

    def _flush(self) -> None:
        if self._outbox and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outbox))
            self._said = self.loop.time()
        self._outbox.clear()


def _body_max(version: object) -> int:
    return _BODY_MAX if str(version).startswith("3.") else _BODY_MAX_OF_4
