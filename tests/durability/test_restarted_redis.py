"""Redis goes away under a running worker and a running client: both go on by themselves, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from asyncq import AsyncQ
from asyncq.errors import BackendError, BrokerConnectionError
from durability.kit import is_settled, values
from servers import RedisServer
from waiting import until

pytestmark = pytest.mark.slow

_CONCURRENCY = 20


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that keeps its data, and that the test may do anything to.

    Not with `appendfsync everysec`: while an fsync is under way it answers before it has even written, for up to two
    seconds, and a SIGKILL then loses what was confirmed (seen here, on a busy disk).
    """
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url()


@pytest.fixture(params=["in order", "SIGKILL"])
def end(request: pytest.FixtureRequest, server: RedisServer) -> Callable[[], None]:
    """The server's end."""
    return server.stop if request.param == "in order" else server.kill


async def test_waiting_clients_and_idle_workers_survive_a_restart(
    url: str, server: RedisServer, client: AsyncQ, end: Callable[[], None]
) -> None:
    resume = asyncio.Event()

    @client.task(name="durability.held")
    async def held(number: int) -> int:
        await resume.wait()
        return number

    async with client.worker(concurrency=_CONCURRENCY) as worker:
        results = [await held.send(number) for number in range(10)]
        assert await results[0].status() == "PENDING"
        waiting = asyncio.ensure_future(values(results))
        await until(lambda: worker.stats.received == 10)

        await asyncio.to_thread(end)
        with pytest.raises(BrokerConnectionError):
            await held.send(99)
        with pytest.raises(BackendError):
            await results[0].status()
        await asyncio.to_thread(server.start)

        # What ran all the while ends where it ran: the worker still holds it.
        resume.set()
        assert await waiting == list(range(10))
        # An idle worker hears of what a newcomer sends.
        async with AsyncQ("newcomer", broker=url, backend=url) as newcomer:
            result = await newcomer.send_task("durability.held", [10])
            assert await result.get(10) == 10
        # And the client, whose connections had broken, sends and waits as before.
        assert await values([await held.send(number) for number in range(50)]) == list(range(50))
        assert (worker.stats.received, worker.stats.lost) == (61, 0)
        await until(lambda: is_settled(client))
