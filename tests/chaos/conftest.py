"""Servers for the rows, and the two sizes that each of them has."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chaos.proxy import Proxy
from chaos.scale import LONG, SHORT, Scale
from chaos.trace import AOF
from chaos.trial import Places
from servers import RedisServer


@pytest.fixture(
    params=[
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(150)),
        pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ]
)
def scale(request: pytest.FixtureRequest) -> Scale:
    return request.param


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may do anything to. Its log stays with the ledger."""
    with RedisServer(**AOF) as server:
        yield server
        shutil.copy(server.folder / "log", tmp_path / "redis.log")


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def places(server: RedisServer) -> Places:
    return Places(broker=server.url(), backend=server.url(), trace=server.folder)
