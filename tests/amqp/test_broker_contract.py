"""The AMQP broker keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from amqp_kit import make_broker
from asyncq.driver import Broker
from asyncq.testing.broker_contract import BrokerContract, Freeze, MakeBroker, Restart
from servers import RabbitServer


class TestAmqpBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, own_server: RabbitServer) -> MakeBroker:
        def make(*, timeout: float = 10.0) -> Broker:
            return make_broker(own_server.url(), timeout=timeout)

        return make

    @pytest.fixture
    def restart(self, own_server: RabbitServer) -> Restart:
        async def restart() -> None:
            await asyncio.to_thread(own_server.restart)

        return restart

    @pytest.fixture
    def freeze(self, own_server: RabbitServer) -> Freeze:
        @asynccontextmanager
        async def freeze() -> AsyncGenerator[None]:
            with own_server.paused():
                yield

        return freeze
