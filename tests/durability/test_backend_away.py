"""A worker stops while the result backend is away: what it could not store goes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

import pytest
from redis import Redis

from asyncq import AsyncQ
from chaos.ledger import Ledger
from durability.kit import ids, is_settled, send, values
from durability.worker_program import declare_tasks
from redis_kit import Client
from servers import RedisServer
from waiting import until

pytestmark = pytest.mark.slow

_CONCURRENCY = 20

_databases = count(64)


class Outage(NamedTuple):
    """What takes the backend away, and what brings it back."""

    begin: Callable[[], None]
    end: Callable[[], None]


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """The server of the results alone, which keeps its data."""
    with RedisServer(appendonly="yes", appendfsync="always") as store:
        yield store


@pytest.fixture(params=["silent", "gone"])
def outage(request: pytest.FixtureRequest, store: RedisServer) -> Outage:
    if request.param == "silent":
        return Outage(store.pause, store.resume)
    return Outage(store.kill, store.start)


@pytest.fixture
def url(server: RedisServer) -> str:
    """The broker, on a server that stays."""
    return server.url(next(_databases))


@pytest.fixture
def broker(url: str) -> Iterator[Client]:
    """A look into the broker's keys."""
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
async def client(url: str, store: RedisServer, ledger: Ledger) -> AsyncIterator[AsyncQ]:
    # The silent server must be given up on within the outage.
    async with AsyncQ("durability", broker=url, backend=store.url(), network_timeout=2) as client:
        declare_tasks(client, ledger)
        yield client


@asynccontextmanager
async def away(outage: Outage) -> AsyncGenerator[None]:
    await asyncio.to_thread(outage.begin)
    try:
        yield
    finally:
        await asyncio.to_thread(outage.end)


def unacked(broker: Client) -> set[str]:
    """Ids of the tasks that some worker holds."""
    return {json.loads(record)[0]["headers"]["id"] for record in broker.hvals("unacked")}


def ended(ledger: Ledger) -> set[str]:
    return set(ledger.runs("END"))


async def test_a_worker_that_stops_without_a_backend_hands_back_what_it_could_not_store(
    client: AsyncQ, broker: Client, ledger: Ledger, outage: Outage
) -> None:
    worker = client.worker(concurrency=_CONCURRENCY)
    async with worker:
        results = await send(client, range(1000), pause=0.005)
        await until(lambda: len(ended(ledger)) > 300)
        async with away(outage):
            before = ended(ledger)
            await until(lambda: broker.hlen("unacked") > _CONCURRENCY and unacked(broker) <= ended(ledger))
            unstored = ended(ledger) - before
            async with asyncio.timeout(30):
                worker.stop()
                await worker.wait()
            assert unacked(broker) == set()
            waiting = {json.loads(raw)["headers"]["id"] for raw in broker.lrange("celery", 0, -1)}
            assert unstored
            assert unstored <= waiting

    async with client.worker(concurrency=_CONCURRENCY):
        assert await values(results) == list(range(1000))
        assert ledger.runs("END").keys() == ids(results)
        await until(lambda: is_settled(client))
