"""A connection that is made when it is needed, and made again after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncq.driver import Clock
from asyncq.errors import ConfigurationError

from .channel import Channel
from .connection import Connection
from .endpoint import Endpoint
from .errors import ConnectionLost, translate

__all__ = ["Link"]


class Link:
    """One shared connection to the first endpoint that lets us in. Belongs to the event loop that first awaits it.

    Every call has one deadline, connecting included, and makes at most one attempt to connect: each endpoint once,
    beginning with the one that served last.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, clock: Clock, timeout: float) -> None:
        self.timeout = timeout
        self._endpoints = list(endpoints)
        self._clock = clock
        #: Monotonic time of the server's last sign of life; of the making before the first one.
        self.last_contact = clock.monotonic()
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @property
    def address(self) -> str:
        """Where the connection is, or the first one will be tried."""
        return self._endpoints[0].address

    def deadline(self) -> float:
        """Loop time by which a call that begins now has to end."""
        return asyncio.get_running_loop().time() + self.timeout

    async def connected(self, deadline: float) -> Connection:
        """The connection, made anew where it is not alive. Raises ConnectionLost, ConfigurationError.

        Who was let in before, and is refused now, has lost the connection: rights are taken and given, and a server
        that starts may not know its users yet. That is no fault of what our URL says.
        """
        connection = self._connection
        if connection is not None and connection.alive:
            return connection
        try:
            async with asyncio.timeout_at(deadline), self._connecting:
                if self._connection is not None and self._connection.alive:
                    return self._connection
                self.refuse_if_closed()
                self._connection = connection = await self._connect(deadline)
        except TimeoutError as error:
            raise translate(error, self.address) from error
        except ConfigurationError as error:
            if self._connection is None:
                raise
            raise ConnectionLost(str(error)) from error
        if self._closed:  # meanwhile
            await connection.close()
            self.refuse_if_closed()
        return connection

    async def channel(self, deadline: float) -> Channel:
        """A channel of its own for whoever asks."""
        return await (await self.connected(deadline)).channel(deadline)

    async def close(self) -> None:
        """Close for good; calls under way and later ones fail. May be called twice."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    def refuse_if_closed(self) -> None:
        if self._closed:
            raise ConnectionLost(f"the connection to RabbitMQ at {self.address} is closed")

    async def _connect(self, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        for left in range(len(self._endpoints), 0, -1):
            # One that is away must not use up the time of the others.
            share = loop.time() + (deadline - loop.time()) / left
            try:
                return await Connection.open(self._endpoints[0], share, self._contact)
            except (ConnectionLost, ConfigurationError):
                self._endpoints.append(self._endpoints.pop(0))
                if left == 1:
                    raise
        raise AssertionError("a link has an endpoint")

    def _contact(self) -> None:
        self.last_contact = self._clock.monotonic()
