"""A TCP proxy that does to connections what networks do. It needs no rights, and obeys calls.

::

    async with Proxy(server.port) as proxy:
        ...  # clients connect to proxy.port
        proxy.blackhole()  # a partition
        proxy.heal()  # everything passes again

What a call sets holds for the connections of the moment and for new ones, until `heal`. `reset`, `cut_after` and
`forget` hit connections of the moment alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Literal, Self, TypeAlias

#: `requests` go from the client to the server.
Direction: TypeAlias = Literal["requests", "replies"]
_BOTH: frozenset[Direction] = frozenset(("requests", "replies"))

_CHUNK = 65536

#: Bytes on their way in one direction of a connection, from which on nothing more is read.
_MOST_HELD = 1 << 20

#: A socket with this option ends by a RST when it is closed.
_NO_LINGER = struct.pack("ii", 1, 0)


class Proxy:
    """Stands before one port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        #: What is done to bytes: the directions in which they are dropped, whether they are read at all, how many
        #: seconds late and how many a second (0: as they come) they pass.
        self.dropped: frozenset[Direction] = frozenset()
        self.frozen = False
        self.latency = 0.0
        self.bandwidth = 0.0
        #: Connections that were ever asked for.
        self.accepted = 0
        #: Called with what comes, before anything is done to it: connection, direction, bytes.
        self.tap: Callable[[object, Direction, bytes], None] = _nobody
        self._refusing = False
        self._cuts: deque[_Cut] = deque()
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Of the Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many there are at the moment."""
        return len(self._connections)

    def heal(self) -> None:
        """Everything passes again. What was dropped stays lost; what was not read comes now."""
        self.dropped, self.frozen, self.latency, self.bandwidth = frozenset(), False, 0.0, 0.0
        self._refusing = False
        self._changed.set()
        self._changed = asyncio.Event()

    def delay(self, seconds: float) -> None:
        """Everything comes so much later, each way, and in order."""
        self.latency = seconds

    def throttle(self, bytes_per_second: float) -> None:
        """Nothing is faster than this, each way of each connection."""
        self.bandwidth = bytes_per_second

    def blackhole(self) -> None:
        """A partition: both sides keep their sockets, and nothing arrives, ends of connections as little as bytes."""
        self.dropped = _BOTH

    def half_open(self, passing: Direction) -> None:
        """One direction passes, the other is dropped."""
        self.dropped = _BOTH - {passing}

    def freeze(self) -> None:
        """Read nothing: senders feel the back-pressure."""
        self.frozen = True

    def refuse(self) -> None:
        """New connections are reset as soon as they are made. Those of the moment go on."""
        self._refusing = True

    def reset(self) -> None:
        """End the connections of the moment, by a RST on both sides."""
        for connection in self._connections:
            connection.reset()

    def forget(self) -> None:
        """The connections of the moment carry nothing any more, for ever, and nobody is told. New ones work."""
        for connection in self._connections:
            connection.forgotten = True

    async def cut_after(self, count: int) -> None:
        """Close the connection on which the count-th byte from now passes, behind that byte; returns when that was."""
        cut = _Cut(count)
        self._cuts.append(cut)
        await cut.made.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `heal` makes it true."""
        while not condition():
            await self._changed.wait()

    def cut(self, data: bytes) -> tuple[bytes, bool]:
        """What of `data` still passes, and whether the connection ends behind it."""
        if not self._cuts:
            return data, False
        cut = self._cuts[0]
        if len(data) < cut.left:
            cut.left -= len(data)
            return data, False
        self._cuts.popleft().made.set()
        return data[: cut.left], True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            if self._refusing:
                connection.reset()
            else:
                await connection.run(reader)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio's server would tell of a cancelled handler
        finally:
            del self._connections[connection]
            connection.close()


def _nobody(*_: object) -> None:
    """Nobody listens."""


class _Cut:
    def __init__(self, left: int) -> None:
        self.left = left
        self.made = asyncio.Event()


class _Connection:
    """Two sockets and what passes between them."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.forgotten = False
        self._proxy = proxy
        self._writers = [client]

    async def run(self, client: asyncio.StreamReader) -> None:
        try:
            server, writer = await asyncio.open_connection("127.0.0.1", self._proxy.target)
        except OSError:  # nobody listens: tell the client the same way
            return self.reset()
        self._writers.append(writer)
        pipes = [
            _Pipe(self._proxy, self, "requests", client, writer),
            _Pipe(self._proxy, self, "replies", server, self._writers[0]),
        ]
        pumps = [asyncio.create_task(pump) for pipe in pipes for pump in (pipe.read(), pipe.write())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        return None

    def reset(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class _Pipe:
    """One direction of a connection. Either half returns when the connection is to end."""

    def __init__(
        self,
        proxy: Proxy,
        connection: _Connection,
        direction: Direction,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._direction: Direction = direction
        self._source = source
        self._target = target
        #: Loop time at which it is due, and the bytes; at the end of the stream none.
        self._held: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._moved = asyncio.Event()

    async def read(self) -> None:
        loop, proxy = asyncio.get_running_loop(), self._proxy
        while True:
            data = b""
            await proxy.until(lambda: not proxy.frozen)
            with contextlib.suppress(ConnectionError):
                data = await self._source.read(_CHUNK)
            await proxy.until(lambda: not proxy.frozen)
            if not data:
                break
            proxy.tap(self._connection, self._direction, data)
            if self._is_open():
                self._held.append((loop.time() + proxy.latency, data))
                self._size += len(data)
                self._moved.set()
            while self._size > _MOST_HELD:
                await asyncio.sleep(0.01)
        await proxy.until(self._is_open)
        self._held.append((loop.time() + proxy.latency, b""))
        self._moved.set()
        await asyncio.Event().wait()  # `write` has the last word

    async def write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._held:
                self._moved.clear()
                await self._moved.wait()
            due, data = self._held.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                return
            if self._proxy.bandwidth:
                await asyncio.sleep(len(data) / self._proxy.bandwidth)
            self._size -= len(data)
            if not self._is_open():
                continue
            passing, ends = self._proxy.cut(data)
            self._target.write(passing)
            if ends:
                return
            with contextlib.suppress(ConnectionError):
                await self._target.drain()

    def _is_open(self) -> bool:
        return not self._connection.forgotten and self._direction not in self._proxy.dropped
