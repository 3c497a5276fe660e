"""The Redis broker keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Broker, DriverConfig
from asyncq.testing.broker_contract import BrokerContract, Freeze, MakeBroker, Restart
from asyncq_brokers.redis import RedisBroker
from servers import RedisServer


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, own_server: RedisServer) -> MakeBroker:
        def make(*, timeout: float = 10.0) -> Broker:
            environment = system_environment()
            return RedisBroker(
                DriverConfig(url=own_server.url(), app="contract", environment=environment, timeout=timeout)
            )

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
