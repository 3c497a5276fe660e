"""asyncq workers and Celery workers on one queue, at the same time and one after the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ, Context
from asyncq.worker import Worker
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from processes import Program
from redis_kit import Client
from waiting import until

pytestmark = pytest.mark.interop


def recording(app: AsyncQ, worker: CeleryWorker) -> None:
    """Give an asyncq app the task that the Celery worker has, with the same ledger."""

    @app.task(name="interop.record")
    async def record(ctx: Context, retries: int = 0) -> str:
        worker.ledger.write("RUN", ctx.task_id, "asyncq")
        await asyncio.sleep(0.002)  # so that one loop turn is not the whole backlog
        if ctx.retries < retries:
            raise ctx.retry(countdown=0, max_retries=retries)
        return "asyncq"


@pytest.mark.slow
async def test_both_kinds_of_worker_share_a_backlog_exactly_once(
    url: str, redis: Client, queue: AsyncQ, celery: CeleryClient, tmp_path: Path
) -> None:
    """2,000 tasks, half from either client; every tenth is retried twice by whoever has it."""
    async with CeleryWorker(url, tmp_path) as worker:
        recording(queue, worker)
        gate = worker.gate("backlog")  # an idle Celery worker would be served before the messages ever stood there
        await queue.send_task("interop.hold", [str(gate.path)])
        await until(lambda: bool(worker.ledger.entries("HELD")))
        retries = {f"task-{number}": 2 if number % 10 == 0 else 0 for number in range(2000)}
        ids = list(retries)
        sent = [
            queue.signature({"task": "interop.record", "args": [retries[name]], "options": {"task_id": name}})
            for name in ids[:1000]
        ]
        await queue.send_many(sent)
        for name in ids[1000:]:
            await celery.send("interop.record", [retries[name]], task_id=name)

        gate.open()
        async with queue.worker(concurrency=4):
            values = await asyncio.gather(*(queue.result(name).get(40) for name in ids))

        assert worker.ledger.runs("RUN") == {name: 1 + retries[name] for name in ids}
        assert Counter(values).keys() == {"asyncq", "celery"}
        assert await celery.get(ids[0]) == values[0]
        assert redis.llen("celery") == 0
        await until(lambda: redis.hlen("unacked") == 0)


async def test_a_retried_task_goes_there_and_back(
    url: str, queue: AsyncQ, celery: CeleryClient, tmp_path: Path
) -> None:
    """Each attempt ends its worker; the next one is made by the other kind."""
    worker = CeleryWorker(url, tmp_path)
    serving: list[Worker] = []

    @queue.task(name="interop.hand_over")
    async def hand_over(ctx: Context, attempts: int) -> Any:
        worker.ledger.write("RUN", ctx.task_id, "asyncq")
        serving[-1].stop()
        if ctx.retries + 1 < attempts:
            raise ctx.retry(exc=ValueError("somebody else, please"), countdown=0)
        return [ctx.retries, dict(ctx.headers), ctx.root_id]

    async def serve_here() -> None:
        serving.append(queue.worker())
        await serving[-1].run()

    task_id = await celery.send("interop.hand_over", [4], headers={"tenant": "acme"}, root_id="root")
    await serve_here()
    async with worker:
        assert await asyncio.to_thread(worker.wait) == 0
    await serve_here()
    async with CeleryWorker(url, tmp_path):
        assert await celery.get(task_id) == [3, {"tenant": "acme"}, "root"]
    assert [record.detail for record in worker.ledger.entries("RUN")] == ["asyncq", "celery", "asyncq", "celery"]
    assert await queue.result(task_id).get(10) == [3, {"tenant": "acme"}, "root"]


# -- visibility ------------------------------------------------------------------------------------------------

#: Seconds after which Celery takes an unacknowledged message for lost.
_VISIBILITY = 1


async def test_celery_leaves_alone_what_asyncq_holds(
    url: str, redis: Client, celery: CeleryClient, tmp_path: Path
) -> None:
    """However long a task runs: asyncq renews its record in Celery's books."""
    ours: dict[str, Any] = {"visibility_timeout": _VISIBILITY}
    # It looks for lost messages ten times a second.
    theirs = {**ours, "unacked_restore_interval": 0.1, "unacked_restore_throttle": 1}
    end = asyncio.Event()
    runs: list[str] = []
    async with AsyncQ("interop", broker=url, backend=url, broker_transport_options=ours) as queue:

        @queue.task(name="interop.hold")
        async def hold(ctx: Context, gate: str) -> str:
            runs.append(ctx.task_id)
            await end.wait()
            return "asyncq"

        async with (
            queue.worker() as worker,
            CeleryWorker(url, tmp_path, queue="theirs", broker_transport_options=theirs),
        ):
            task_id = await celery.send("interop.hold", ["unused"])
            await until(lambda: bool(runs))
            taken = _now(redis)
            await until(lambda: _now(redis) > taken + 2 * _VISIBILITY)
            assert await celery.call("interop.add", [1, 2], queue="theirs") == 3
            end.set()
            assert await celery.get(task_id) == "asyncq"
    assert (runs, worker.stats.lost) == ([task_id], 0)


async def test_celery_runs_what_a_killed_asyncq_worker_was_running(
    url: str, redis: Client, celery: CeleryClient, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"broker_transport_options": {"visibility_timeout": _VISIBILITY}}
    heir = CeleryWorker(url, tmp_path, **options)
    config = {"url": url, "ledger": str(heir.ledger.path), "settings": options}
    async with Program("interop.asyncq_program", config) as victim:
        sent = [await celery.send("interop.hold", [str(heir.gate("open").path)]) for _ in range(3)]
        await until(lambda: len(heir.ledger.entries("HELD")) == len(sent))
        victim.kill()
    heir.gate("open").open()
    # Celery looks when it starts, and then not for a long while.
    last_renewed = max(score for _, score in redis.zrange("unacked_index", 0, -1, withscores=True))
    await until(lambda: _now(redis) > last_renewed + _VISIBILITY)
    async with heir:
        assert [await celery.get(task_id) for task_id in sent] == ["celery"] * len(sent)
    assert heir.ledger.runs("HELD") == dict.fromkeys(sent, 2)


async def test_asyncq_runs_what_a_dead_celery_worker_held(
    url: str, redis: Client, celery: CeleryClient, tmp_path: Path
) -> None:
    """But not before Celery itself would."""
    options: dict[str, Any] = {"broker_transport_options": {"visibility_timeout": _VISIBILITY}}
    async with CeleryWorker(url, tmp_path, task_acks_late=True, **options) as worker:
        task_id = await celery.send("interop.hold", [str(worker.gate("never").path)])
        await until(lambda: bool(worker.ledger.entries("HELD")))
        worker.kill()
    [(_, taken)] = redis.zrange("unacked_index", 0, -1, withscores=True)
    async with AsyncQ("interop", broker=url, backend=url, **options) as queue:

        @queue.task(name="interop.hold")
        async def hold(ctx: Context, gate: str) -> bool:
            return ctx.redelivered and _now(redis) > taken + _VISIBILITY

        async with queue.worker(lease=0.1):
            assert await celery.get(task_id) is True


def _now(redis: Client) -> float:
    seconds, micros = redis.time()
    return seconds + micros / 1e6
