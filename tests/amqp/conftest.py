"""One private RabbitMQ for all tests of a run, where each test process has a virtual host of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from amqp_kit import NewBroker, make_broker
from asyncq_brokers.amqp import AmqpBroker
from rabbit_node import run_folder, shared_node
from servers import RabbitServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[RabbitServer]:
    """A node that no test stops, fills or freezes."""
    with shared_node(run_folder(tmp_path_factory, worker_id)) as node:
        yield node


@pytest.fixture(scope="session")
def vhost(server: RabbitServer, worker_id: str) -> str:
    server.add_vhost(worker_id)
    return worker_id


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitServer]:
    """A node for the tests of a module that restart, fill or freeze it."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def url(server: RabbitServer, vhost: str) -> str:
    return server.url(vhost)


@pytest.fixture
async def new_broker(url: str) -> AsyncIterator[NewBroker]:
    async with AsyncExitStack() as opened:

        async def new_broker(*, timeout: float = 10.0, **options: Any) -> AmqpBroker:
            broker = make_broker(url, timeout=timeout, **options)
            opened.push_async_callback(broker.close)
            await broker.open()
            return broker

        yield new_broker


@pytest.fixture
async def broker(new_broker: NewBroker) -> AmqpBroker:
    return await new_broker()
