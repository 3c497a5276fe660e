"""The Redis drivers keep the contract of coordination."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.testing.coordination_contract import (
    CoordinatingDriver,
    CoordinationContract,
    Freeze,
    MakeDriver,
    Restart,
)
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker
from servers import RedisServer


@pytest.mark.parametrize("kind", [RedisBroker, RedisBackend])
class TestRedisCoordination(CoordinationContract):
    @pytest.fixture
    def make_driver(self, kind: type[RedisBroker | RedisBackend], own_server: RedisServer) -> MakeDriver:
        def make(*, timeout: float = 10.0) -> CoordinatingDriver:
            environment = system_environment()
            return kind(DriverConfig(url=own_server.url(), app="contract", environment=environment, timeout=timeout))

        return make

    @pytest.fixture
    def restart(self, own_server: RedisServer) -> Restart:
        async def restart() -> None:
            await asyncio.to_thread(own_server.restart)

        return restart

    @pytest.fixture
    def freeze(self, own_server: RedisServer) -> Freeze:
        @asynccontextmanager
        async def freeze() -> AsyncGenerator[None]:
            with own_server.paused():
                yield

        return freeze
