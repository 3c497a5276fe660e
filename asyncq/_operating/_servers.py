"""The servers of a dead worker, as its brief names them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TypeVar

from asyncq._brief import Brief
from asyncq._coordination import coordination_of
from asyncq._drivers import make_backend, make_broker
from asyncq.driver import Broker, Coordination, Environment, ResultBackend

__all__ = ["Servers"]

D = TypeVar("D", Broker, ResultBackend)


class Servers:
    """Each is opened when it is first needed: what needs one of them alone doesn't fail because the other is away.

    All raise BrokerError, BackendError, ConfigurationError.
    """

    def __init__(self, brief: Brief, environment: Environment) -> None:
        self._brief = brief
        self._environment = environment
        self._stack = AsyncExitStack()
        self._broker: Broker | None = None
        self._backend: ResultBackend | None = None

    async def broker(self) -> Broker:
        if self._broker is None:
            self._broker = await self._open(make_broker(self._brief.broker.config(self._brief, self._environment)))
        return self._broker

    async def backend(self) -> ResultBackend | None:
        """None where results are kept nowhere."""
        if self._backend is None and self._brief.backend is not None:
            self._backend = await self._open(make_backend(self._brief.backend.config(self._brief, self._environment)))
        return self._backend

    async def coordination(self) -> Coordination | None:
        """None where neither of the two keeps facts."""
        return coordination_of(await self.backend(), await self.broker())

    async def close(self) -> None:
        await self._stack.aclose()

    async def _open(self, driver: D) -> D:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(driver.close)
            await driver.open()
            self._stack.push_async_callback(stack.pop_all().aclose)
        return driver
