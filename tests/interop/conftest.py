"""One private Redis for all tests of a process, a database of its own for each test, one Celery worker for many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from redis import Redis

from asyncq import AsyncQ
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from interop.failures import Catalogue, OutOfStock
from rabbit_node import run_folder, shared_node
from redis_kit import Client
from servers import RabbitServer, RedisServer

_databases = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A server that no test stops or fills."""
    with RedisServer(databases="512") as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> str:
    """A database that no other test uses."""
    return server.url(next(_databases))


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[RabbitServer]:
    """The RabbitMQ of this test run; queues there have names of their own."""
    with shared_node(run_folder(tmp_path_factory, worker_id)) as node:
        yield node


@pytest.fixture
def redis(url: str) -> Iterator[Client]:
    """A look into the test's database."""
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
async def queue(url: str) -> AsyncIterator[AsyncQ]:
    """An asyncq app on the test's database."""
    async with AsyncQ("interop", broker=url, backend=url, track_started=True) as queue:
        yield queue


@pytest.fixture
async def celery(url: str) -> AsyncIterator[CeleryClient]:
    """A Celery client on the test's database."""
    async with CeleryClient(url) as client:
        yield client


@pytest.fixture(scope="session")
def celery_worker(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryWorker]:
    """A Celery worker that runs one task at a time, on a database of its own."""
    with CeleryWorker(server.url(next(_databases)), tmp_path_factory.mktemp("celery")) as worker:
        yield worker


@pytest.fixture
async def client(celery_worker: CeleryWorker) -> AsyncIterator[AsyncQ]:
    """An asyncq app that sends to the Celery worker; it serves no task itself."""
    async with AsyncQ(
        "client",
        broker=celery_worker.url,
        backend=celery_worker.url,
        default_queue=celery_worker.queue,
        exceptions=[OutOfStock, Catalogue.Missing],
    ) as client:
        yield client


_OTHERWISE: dict[str, Any] = {
    "result_serializer": "msgpack",
    "result_compression": "gzip",
    "result_extended": True,
    "broker_transport_options": {"global_keyprefix": "team1:"},
    "result_backend_transport_options": {"global_keyprefix": "team1:"},
}


@pytest.fixture(scope="session")
def other_worker(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryWorker]:
    """A Celery worker with settings that are far from the defaults."""
    url = server.url(next(_databases))
    with CeleryWorker(url, tmp_path_factory.mktemp("celery"), task_track_started=False, **_OTHERWISE) as worker:
        yield worker


@pytest.fixture
async def other_client(other_worker: CeleryWorker) -> AsyncIterator[AsyncQ]:
    """An asyncq app that sends to that one."""
    async with AsyncQ("client", broker=other_worker.url, backend=other_worker.url, **_OTHERWISE) as client:
        yield client
