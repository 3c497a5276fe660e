"""Time limits, whoever sets them and whoever keeps them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

import asyncq
from asyncq import AsyncQ
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker

pytestmark = pytest.mark.interop


async def endless() -> None:
    await asyncio.Event().wait()


# -- an asyncq worker keeps them -------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "senders"), [(0.2, None), (None, 0.2), (60, 0.2), (0.2, 60), (0.2, 0)])
async def test_the_lower_of_two_hard_limits_is_celerys_time_limit_exceeded(
    celery: CeleryClient, queue: AsyncQ, own: float | None, senders: float | None
) -> None:
    """The task's own and the sender's, which can only lower it."""
    queue.task(name="endless", time_limit=own)(endless)
    async with queue.worker():
        task_id = await celery.send("endless", time_limit=senders)
        with pytest.raises(TimeLimitExceeded) as raised:
            await celery.get(task_id)
        assert raised.value.args == (0.2,)
        assert await celery.state(task_id) == "FAILURE"


@pytest.mark.parametrize(("own", "senders"), [(0.2, None), (None, 0.2), (60, 0.2), (0.2, 60)])
async def test_the_lower_of_two_soft_limits_is_celerys_soft_time_limit_exceeded(
    celery: CeleryClient, queue: AsyncQ, own: float | None, senders: float | None
) -> None:
    queue.task(name="endless", soft_time_limit=own)(endless)
    async with queue.worker():
        task_id = await celery.send("endless", soft_time_limit=senders)
        with pytest.raises(SoftTimeLimitExceeded):
            await celery.get(task_id)
        state, traceback = await celery.look(task_id, "state", "traceback")
        assert state == "FAILURE"
        assert "in endless" in traceback


async def test_a_task_cleans_up_after_its_soft_limit(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="careful", time_limit=60)
    async def careful() -> str:
        try:
            await endless()
        except asyncq.SoftTimeLimitExceeded:
            return "half of it"
        return "all of it"

    async with queue.worker():
        assert await celery.call("careful", soft_time_limit=0.2) == "half of it"


async def test_a_soft_limit_is_raised_in_a_thread(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="spin")
    def spin() -> None:
        while True:
            time.sleep(0.001)

    async with queue.worker():
        with pytest.raises(SoftTimeLimitExceeded):
            await celery.call("spin", soft_time_limit=0.2)


# -- a Celery worker keeps them --------------------------------------------------------------------------------


@pytest.fixture
def prefork_worker(url: str, tmp_path: Path) -> Iterator[CeleryWorker]:
    """The one kind of Celery worker that keeps both limits."""
    with CeleryWorker(url, tmp_path, worker_pool="prefork", worker_concurrency=1) as worker:
        yield worker


async def test_a_prefork_worker_keeps_the_limits_of_our_sender(queue: AsyncQ, prefork_worker: CeleryWorker) -> None:
    never = str(prefork_worker.gate("never").path)
    results = [
        await queue.send_task("interop.hold", [never], time_limit=1),
        await queue.send_task("interop.hold", [never], soft_time_limit=1, time_limit=60),
        await queue.send_task("interop.add", [1, 2], soft_time_limit=10, time_limit=15),
    ]
    with pytest.raises(asyncq.TimeLimitExceeded) as raised:
        await results[0].get(30)
    assert raised.value.args == (1,)
    # The soft one comes back under the other name: its own class would cancel whoever waits here.
    with pytest.raises(asyncq.TimeLimitExceeded, match="soft time limit"):
        await results[1].get(30)
    assert await results[2].get(30) == 3
