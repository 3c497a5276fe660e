"""Stores that outlive a worker, and workers that a test may kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ
from chaos.ledger import Ledger
from durability.kit import MakeWorker
from durability.worker_program import declare_tasks
from processes import Program
from servers import RedisServer

_databases = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A server that no test stops or fills."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file or a database that no other test uses."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.sqlite"
    server: RedisServer = request.getfixturevalue("server")
    return server.url(next(_databases))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
async def client(url: str, ledger: Ledger) -> AsyncIterator[AsyncQ]:
    """An app that sends; it knows the tasks, and may serve them."""
    async with AsyncQ("durability", broker=url, backend=url) as client:
        declare_tasks(client, ledger)
        yield client


@pytest.fixture
def make_worker(url: str, ledger: Ledger) -> MakeWorker:
    def make_worker(**options: Any) -> Program:
        config = {"url": url, "ledger": str(ledger.path), "options": options}
        return Program("durability.worker_program", config)

    return make_worker
