"""One private Redis for all tests of a session; each test has a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from servers import RedisServer

_databases = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A server that no test stops or fills."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """A server that keeps its data, for tests that restart or freeze it."""
    with RedisServer(appendonly="yes") as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> str:
    """A database that nobody has used in this session, or that has been emptied since."""
    db = next(_databases) % 128
    url = server.url(db)
    if db == 0:
        server.command("FLUSHALL")
    return url
