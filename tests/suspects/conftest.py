"""Stores that other processes reach, and the shop on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from chaos.ledger import Ledger
from servers import RedisServer
from suspects.kit import Kit

_databases = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
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
async def kit(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kit]:
    ledger = Ledger(tmp_path / "ledger")
    # The quarantined processes and the workers read these when they import the shop.
    monkeypatch.setenv("ASYNCQ_BROKER", url)
    monkeypatch.setenv("ASYNCQ_BACKEND", url)
    monkeypatch.setenv("SUSPECTS_LEDGER", str(ledger.path))
    async with Kit(url, ledger) as kit:
        yield kit
