from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from asyncq._clock import system_environment
from asyncq._operating import MessageReader
from asyncq.driver import Broker, DriverConfig
from asyncq.protocol import Limits
from asyncq_brokers.memory import MemoryBroker
from asyncq_brokers.redis import RedisBroker
from asyncq_brokers.sqlite import SQLiteBroker
from servers import RedisServer

_databases = count()


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Each broker in turn, empty and nobody else's."""
    match request.param:
        case "redis":
            server: RedisServer = request.getfixturevalue("server")
            make, url = RedisBroker, server.url(next(_databases))
        case "sqlite":
            make, url = SQLiteBroker, f"sqlite:///{tmp_path}/queue.sqlite"
        case _:
            make, url = MemoryBroker, "memory://"
    broker = make(DriverConfig(url=url, app="tests", environment=system_environment()))
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
def config() -> DriverConfig:
    """All memory brokers with this configuration share their messages."""
    return DriverConfig(url="memory://", app="tests", environment=system_environment())


@pytest.fixture
def memory(config: DriverConfig) -> MemoryBroker:
    return MemoryBroker(config)


@pytest.fixture
def reader() -> MessageReader:
    return MessageReader(Limits(), ("json",))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few messages are several pages."""
    for module in ("_places", "_parked", "_dead"):
        monkeypatch.setattr(f"asyncq._operating.{module}.PAGE", 2)
