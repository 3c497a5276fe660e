"""A TCP proxy that loses what passes through it."""

from __future__ import annotations

import asyncio
from typing import Self


class LossyProxy:
    """Stands between a client and the server, and loses what passes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._connections: list[asyncio.Task[None]] = []
        self._forgotten: set[asyncio.Task[None]] = set()
        #: Replies vanish.
        self.deaf = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """End every connection."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def forget(self) -> None:
        """The connections of this moment carry nothing any more, and nobody is told; new ones do."""
        self._forgotten.update(self._connections)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.append(task)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool) -> None:
            while data := await source.read(65536):
                if not (task in self._forgotten or (replies and self.deaf)):
                    target.write(data)

        pumps = [
            asyncio.create_task(pump(reader, upstream, replies=False)),
            asyncio.create_task(pump(upstream_reader, writer, replies=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (upstream, writer):
                end.transport.abort()
            for one in pumps:
                one.cancel()
            await asyncio.wait(pumps)
