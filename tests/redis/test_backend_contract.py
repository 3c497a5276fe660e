"""The Redis result backend keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, ResultBackend
from asyncq.testing.backend_contract import BackendContract, Freeze, MakeBackend, Restart, Subscriptions
from asyncq_backends.redis import RedisBackend
from servers import RedisServer


class TestRedisBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, own_server: RedisServer) -> MakeBackend:
        def make(*, timeout: float = 10.0) -> ResultBackend:
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

    @pytest.fixture
    def subscriptions(self, own_server: RedisServer) -> Subscriptions:
        async def count(backend: ResultBackend) -> int:
            """As the server counts them, once it and the backend agree: changes go out a moment later."""
            assert isinstance(backend, RedisBackend)
            async with asyncio.timeout(5):
                while True:
                    reply = own_server.command("PUBSUB", "CHANNELS", "celery-task-meta-*")
                    channels = int(reply[1 : reply.index(b"\r\n")])
                    if channels == backend.followed:
                        return channels
                    await asyncio.sleep(0.005)

        return count
