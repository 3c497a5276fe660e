"""F15: a worker that has run many tasks holds no more than one that has run few, and is no slower."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
import redis

from asyncq import AsyncQ
from durability.leak_program import declare_tasks, gauges
from processes import Program
from servers import RedisServer

#: Tells what was measured: `pytest --log-cli-level=INFO`.
logger = logging.getLogger(__name__)

pytestmark = pytest.mark.slow

#: Tasks that are under way at a time.
_BATCH = 500

#: What a worker may have grown by after the first tenth of its tasks: bytes, and parts of what there was.
_MOST_BYTES, _MOST_RESIDENT, _MOST_OBJECTS = 5 * 2**20, 0.05, 0.01

#: The rate at the end, in parts of that at the start.
_LEAST_RATE = 0.95

#: What stays on a server: queues, and what Celery's clients find them by.
_STAYS = (b"celery", b"_kombu.binding")


async def work_off(app: AsyncQ, first: int, count: int) -> float:
    """Have so many tasks run, and forget them; return their rate."""
    work: Any = app.tasks["leaks.work"]
    began = time.monotonic()
    for start in range(first, first + count, _BATCH):
        numbers = range(start, min(start + _BATCH, first + count))
        results = await app.send_many([work.s(number) for number in numbers])
        values = await asyncio.gather(*(result.get(60, propagate=False) for result in results))
        for number, value in zip(numbers, values, strict=True):
            assert isinstance(value, ValueError) if number % 3 == 0 else value == number
        await asyncio.gather(*(result.forget() for result in results))
    return count / (time.monotonic() - began)


def assert_no_growth(what: str, before: dict[str, int], after: dict[str, int]) -> None:
    grown = {name: after[name] - before[name] for name in before}
    logger.info("%s: before %s, grown by %s", what, before, grown)
    assert grown["resident"] <= min(_MOST_BYTES, _MOST_RESIDENT * before["resident"])
    assert abs(grown["objects"]) <= _MOST_OBJECTS * before["objects"]
    assert (grown["descriptors"], grown["tasks"]) == (0, 0)


@pytest.fixture(autouse=True)
def brief(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is kept until the test ends: it must not be a line for each task."""
    caplog.set_level(logging.WARNING, logger="asyncq")


async def run_on_memory(count: int) -> tuple[float, float]:
    """Worker and client in this process; return the rates of the first and of the last tenth."""
    async with AsyncQ("leaks", broker="memory://", backend="memory://") as app:
        declare_tasks(app)
        async with app.worker():
            tenth = count // 10
            await work_off(app, 0, tenth)
            before = gauges()
            first = await work_off(app, tenth, tenth)
            await work_off(app, 2 * tenth, count - 3 * tenth)
            last = await work_off(app, count - tenth, tenth)
            assert_no_growth("memory", before, gauges())
    return first, last


async def run_on_redis(server: RedisServer, db: int, count: int) -> tuple[float, float]:
    """The worker in a process of its own."""
    url = server.url(db)
    async with (
        AsyncQ("leaks", broker=url, backend=url) as app,
        Program("durability.leak_program", {"url": url}) as worker,
    ):
        declare_tasks(app)
        tenth = count // 10
        await work_off(app, 0, tenth)
        before = await (await app.send_task("leaks.gauges")).get(20)
        first = await work_off(app, tenth, tenth)
        await work_off(app, 2 * tenth, count - 3 * tenth)
        last = await work_off(app, count - tenth, tenth)
        assert_no_growth("Redis", before, await (await app.send_task("leaks.gauges")).get(20))
        assert worker.stop() == 0
    with redis.Redis.from_url(url) as client:
        left = {key: client.pttl(key) for key in client.scan_iter(count=1000)}
    assert [key for key, ttl in left.items() if ttl < 0 and not key.startswith(_STAYS)] == []
    return first, last


@pytest.mark.timeout(300)
async def test_ten_thousand_tasks_leave_nothing_behind_in_memory() -> None:
    await run_on_memory(10_000)


@pytest.mark.timeout(300)
async def test_ten_thousand_tasks_leave_nothing_behind_on_redis(server: RedisServer) -> None:
    await run_on_redis(server, 100, 10_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_million_tasks_leave_nothing_behind_in_memory() -> None:
    first, last = await run_on_memory(1_000_000)
    logger.info("%.0f tasks a second at first, %.0f at last", first, last)
    assert last >= _LEAST_RATE * first


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_two_hundred_thousand_tasks_leave_nothing_behind_on_redis(server: RedisServer) -> None:
    first, last = await run_on_redis(server, 101, 200_000)
    logger.info("%.0f tasks a second at first, %.0f at last", first, last)
    assert last >= _LEAST_RATE * first
