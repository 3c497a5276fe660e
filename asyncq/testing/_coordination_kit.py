"""The fixtures of the coordination suite, and the few verbs that its tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

import pytest

from asyncq.driver import Coordinating, Coordination, Fact
from asyncq.errors import BackendConnectionError, BrokerConnectionError
from asyncq.testing._kit import environment, within

#: What a driver raises when its server can't be reached: it depends on what kind of driver it is.
CONNECTION_ERRORS = (BrokerConnectionError, BackendConnectionError)

#: Seconds: for facts that shall outlive the test.
LONG = 300.0


class CoordinatingDriver(Coordinating, Protocol):
    """A broker or a result backend, as far as this suite needs it."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class MakeDriver(Protocol):
    """Makes a further, unopened instance on the same store, as another process would."""

    def __call__(self, *, timeout: float = 10.0) -> CoordinatingDriver: ...


class NewDriver(Protocol):
    """Makes a further instance and opens it; the suite closes it."""

    async def __call__(self, *, timeout: float = 10.0) -> CoordinatingDriver: ...


#: Stops the server and starts it again with its data.
Restart = Callable[[], Awaitable[None]]
#: `async with freeze(): …`: the server keeps its connections and answers nobody.
Freeze = Callable[[], AbstractAsyncContextManager[None]]


class CoordinationFixtures:
    """What a driver's test class overrides, and what the suite makes of it."""

    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        raise NotImplementedError("override make_driver: asyncq.testing says how")

    @pytest.fixture
    def restart(self) -> Restart:
        pytest.skip("no `restart` fixture: the store has no server to restart")

    @pytest.fixture
    def freeze(self) -> Freeze:
        pytest.skip("no `freeze` fixture: the store has no server to freeze")

    @pytest.fixture
    async def new_driver(self, make_driver: MakeDriver) -> AsyncIterator[NewDriver]:
        async with AsyncExitStack() as opened:

            async def new_driver(*, timeout: float = 10.0) -> CoordinatingDriver:
                driver = make_driver(timeout=timeout)
                opened.push_async_callback(driver.close)
                await within(driver.open())
                return driver

            yield new_driver

    @pytest.fixture
    async def coordination(self, new_driver: NewDriver) -> Coordination:
        return (await new_driver()).coordination

    @pytest.fixture
    async def crowd(self, new_driver: NewDriver) -> list[Coordination]:
        """Several instances, as of several processes."""
        return [(await new_driver()).coordination for _ in range(5)]

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody else knows. Tests make others of it by adding to it."""
        return f"contract.{environment.new_id()}"


async def put(
    coordination: Coordination, key: str, value: bytes, *, ttl: float = LONG, if_absent: bool = False
) -> bool:
    (written,) = await within(coordination.put([Fact(key=key, value=value, ttl=ttl)], if_absent=if_absent))
    return written


async def get(coordination: Coordination, key: str) -> bytes | None:
    (value,) = await within(coordination.get([key]))
    return value


async def gone(coordination: Coordination, key: str) -> None:
    """Wait until a fact has been forgotten."""

    async def poll() -> None:
        while await coordination.get([key]) != [None]:
            await asyncio.sleep(0.01)

    await within(poll())


async def reconnected(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat an idempotent call until the connection is back, as a worker does."""

    async def attempts() -> None:
        while True:
            try:
                await call()
            except CONNECTION_ERRORS:
                await asyncio.sleep(0.05)
            else:
                return

    await within(attempts())
