"""One private Redis for all tests of a session, where each test has a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest
import redis

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker
from redis_kit import Client, NewBackend, NewBroker
from servers import RedisServer

_databases = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A server that no test stops, fills or freezes."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """A server that keeps its data, for the tests of a module that restart or freeze it."""
    with RedisServer(appendonly="yes") as server:
        yield server


@pytest.fixture
def db(server: RedisServer) -> int:
    """A database that is empty and nobody else's."""
    number = next(_databases) % 128
    with redis.Redis(port=server.port, db=number) as client:
        client.flushdb()
    return number


@pytest.fixture
def url(server: RedisServer, db: int) -> str:
    return server.url(db)


@pytest.fixture
def client(server: RedisServer, db: int) -> Iterator[Client]:
    """An operator's look at the test's database."""
    with redis.Redis(port=server.port, db=db) as client:
        yield client


@pytest.fixture
async def new_broker(url: str) -> AsyncIterator[NewBroker]:
    async with AsyncExitStack() as opened:

        async def new_broker(*, timeout: float = 10.0, **options: Any) -> RedisBroker:
            environment = system_environment()
            broker = RedisBroker(
                DriverConfig(url=url, app="tests", environment=environment, timeout=timeout, options=options)
            )
            opened.push_async_callback(broker.close)
            await broker.open()
            return broker

        yield new_broker


@pytest.fixture
async def broker(new_broker: NewBroker) -> RedisBroker:
    return await new_broker()


@pytest.fixture
async def new_backend(url: str) -> AsyncIterator[NewBackend]:
    async with AsyncExitStack() as opened:

        async def new_backend(*, timeout: float = 10.0, **options: Any) -> RedisBackend:
            environment = system_environment()
            backend = RedisBackend(
                DriverConfig(url=url, app="tests", environment=environment, timeout=timeout, options=options)
            )
            opened.push_async_callback(backend.close)
            await backend.open()
            return backend

        yield new_backend


@pytest.fixture
async def backend(new_backend: NewBackend) -> RedisBackend:
    return await new_backend()
