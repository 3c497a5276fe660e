"""The Redis result backend keeps the contract of chords."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.testing.joining_contract import Freeze, JoiningBackend, JoiningContract, MakeBackend, Restart
from asyncq_backends.redis import RedisBackend
from servers import RedisServer


class TestRedisChords(JoiningContract):
    @pytest.fixture
    def make_backend(self, own_server: RedisServer) -> MakeBackend:
        def make(*, timeout: float = 10.0) -> JoiningBackend:
            environment = system_environment()
            return RedisBackend(
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
