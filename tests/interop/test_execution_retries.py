"""A task whose attempts are made by workers of both kinds, and what is seen of it meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ, Context
from asyncq.protocol import decode_envelope
from asyncq.worker import Worker
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from redis_kit import Client
from waiting import until

pytestmark = pytest.mark.interop

#: Seconds between two attempts.
_COUNTDOWN = 2.0


class Here:
    """The asyncq side of `interop.hand_over`: each attempt but the last ends its worker and asks for another."""

    def __init__(self, queue: AsyncQ) -> None:
        self.queue = queue
        self.runs: list[tuple[str, int, float]] = []
        self._serving: Worker | None = None

        @queue.task(name="interop.hand_over", max_retries=1)
        async def hand_over(ctx: Context, attempts: int, countdown: float = 0) -> Any:
            self.runs.append((ctx.task_id, ctx.retries, time.time()))
            assert self._serving is not None
            self._serving.stop()
            if ctx.retries + 1 < attempts:
                raise ctx.retry(exc=ValueError("somebody else, please"), countdown=countdown)
            return [ctx.retries, dict(ctx.headers), ctx.root_id]

    async def serve(self) -> None:
        """Serve until one attempt was made."""
        self._serving = self.queue.worker()
        async with asyncio.timeout(30):
            await self._serving.run()


@pytest.fixture
def here(queue: AsyncQ) -> Here:
    return Here(queue)


@pytest.fixture
async def housekeeper(url: str) -> AsyncIterator[Worker]:
    """An asyncq worker that serves another queue, and returns what is parked."""
    async with AsyncQ("housekeeper", broker=url, backend=url) as app, app.worker(queues=["elsewhere"]) as worker:
        yield worker


@pytest.mark.usefixtures("housekeeper")
async def test_the_second_attempt_is_made_by_celery_when_it_is_due(
    url: str, redis: Client, queue: AsyncQ, celery: CeleryClient, here: Here, tmp_path: Path
) -> None:
    result = await queue.send_task("interop.hand_over", [2, _COUNTDOWN], headers={"tenant": "acme"})
    await here.serve()
    [(task_id, retries, ran)] = here.runs
    assert (task_id, retries) == (result.id, 0)
    async with CeleryWorker(url, tmp_path) as worker:
        assert await result.get(30) == [1, {"tenant": "acme"}, result.id]
        assert time.time() - ran >= _COUNTDOWN
        assert worker.ledger.runs("RUN") == {result.id: 1}
        await until(lambda: redis.hlen("unacked") == 0)
    assert await celery.get(result.id) == [1, {"tenant": "acme"}, result.id]


async def test_the_second_attempt_is_made_here_when_it_is_due(
    url: str, redis: Client, queue: AsyncQ, celery: CeleryClient, here: Here, tmp_path: Path
) -> None:
    task_id = await celery.send("interop.hand_over", [2, _COUNTDOWN], headers={"tenant": "acme"})
    async with CeleryWorker(url, tmp_path) as worker:
        assert await asyncio.to_thread(worker.wait) == 0
        assert worker.ledger.runs("RUN") == {task_id: 1}
    assert await celery.state(task_id) == "RETRY"
    [waiting] = redis.lrange("celery", 0, -1)
    due = datetime.fromisoformat(decode_envelope(waiting).headers["eta"]).timestamp()
    await here.serve()
    [(ran_id, retries, ran)] = here.runs
    assert (ran_id, retries) == (task_id, 1)
    assert ran >= due
    seen = [1, {"tenant": "acme"}, task_id]
    assert [await celery.get(task_id), await queue.result(task_id).get(10)] == [seen, seen]
    assert redis.hlen("unacked") == redis.llen("celery") == 0


async def test_retries_that_celery_made_count_here(
    url: str, queue: AsyncQ, celery: CeleryClient, here: Here, tmp_path: Path
) -> None:
    """The task here allows one retry, and that one was Celery's."""
    task_id = await celery.send("interop.hand_over", [5])
    async with CeleryWorker(url, tmp_path) as worker:
        assert await asyncio.to_thread(worker.wait) == 0
    await here.serve()
    assert [retries for _, retries, _ in here.runs] == [1]
    with pytest.raises(ValueError, match="somebody else, please"):
        await celery.get(task_id)
    with pytest.raises(ValueError, match="somebody else, please"):
        await queue.result(task_id).get(10)


# -- what a Celery client sees meanwhile -----------------------------------------------------------------------


async def test_the_reason_of_a_retry_and_its_countdown_are_seen(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="flaky", retry_on=(OSError,), retry_backoff=40, retry_jitter=False)
    async def flaky() -> None:
        raise OSError(5, "the line is bad")

    async with queue.worker() as worker:
        task_id = await celery.send("flaky")
        await until(lambda: worker.stats.retried == 1)
        state, info, traceback = await celery.look(task_id, "state", "info", "traceback")
        assert state == "RETRY"
        assert isinstance(info, OSError)
        assert info.args == (5, "the line is bad")
        assert 'raise OSError(5, "the line is bad")' in traceback
        assert traceback.endswith("Retry in 40s")


async def test_a_snoozed_task_is_seen_as_a_retry_and_has_used_no_attempt(celery: CeleryClient, queue: AsyncQ) -> None:
    awake = asyncio.Event()

    @queue.task(name="sleepy", max_retries=0, track_started=False)
    async def sleepy(ctx: Context) -> int:
        if not awake.is_set():
            raise ctx.snooze(0.1)
        return ctx.retries

    async with queue.worker() as worker:
        task_id = await celery.send("sleepy", headers={"tenant": "acme"})
        await until(lambda: worker.stats.snoozed >= 3)
        assert await celery.look(task_id, "state", "info", "traceback") == ["RETRY", None, "Snoozed for 0.1s"]
        awake.set()
        assert await celery.get(task_id) == 0


@pytest.mark.usefixtures("housekeeper")
async def test_what_was_snoozed_here_is_run_by_celery_with_all_its_attempts(
    url: str, queue: AsyncQ, celery: CeleryClient, tmp_path: Path
) -> None:
    @queue.task(name="interop.describe")
    async def describe(ctx: Context) -> None:
        serving.stop()
        raise ctx.snooze(0.1)

    task_id = await celery.send("interop.describe", headers={"tenant": "acme"})
    serving = queue.worker()
    await serving.run()
    async with CeleryWorker(url, tmp_path):
        seen = await celery.get(task_id)
    assert (seen["id"], seen["retries"], seen["headers"]) == (task_id, 0, {"tenant": "acme"})
