"""What is not due yet, has expired or was revoked, and what of it the two sides honour of each other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from asyncq import AsyncQ, Context, Unique, errors
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from redis_kit import Client
from waiting import until

pytestmark = pytest.mark.interop


class Held:
    """A task that says when it runs, and ends when it is told to."""

    def __init__(self, queue: AsyncQ) -> None:
        self.runs: list[str] = []
        self.cancelled: list[str] = []
        self.end = asyncio.Event()

        @queue.task(name="hold")
        async def hold(ctx: Context) -> str:
            self.runs.append(ctx.task_id)
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancelled.append(ctx.task_id)
                raise
            return "done"


@pytest.fixture
def held(queue: AsyncQ) -> Held:
    return Held(queue)


# -- expires ---------------------------------------------------------------------------------------------------


async def test_what_expires_while_an_asyncq_worker_is_busy_does_not_run(
    celery: CeleryClient, queue: AsyncQ, held: Held
) -> None:
    async with queue.worker(concurrency=1):
        first = await celery.send("hold")
        await until(lambda: held.runs == [first])
        sent = time.time()
        late = await celery.send("hold", expires=0.2)
        await until(lambda: time.time() > sent + 0.4)
        held.end.set()
        assert await celery.get(first) == "done"
        with pytest.raises(TaskRevokedError, match="expired"):
            await celery.get(late)
        assert await celery.state(late) == "REVOKED"
    assert held.runs == [first]


async def test_what_expires_while_a_celery_worker_is_busy_does_not_run(
    client: AsyncQ, celery_worker: CeleryWorker
) -> None:
    gate = celery_worker.gate("expires")
    first = await client.send_task("interop.hold", [str(gate.path)], task_id="expires-first")
    await until(lambda: celery_worker.ledger.runs("HELD")[first.id] == 1)
    sent = time.time()
    late = await client.send_task("interop.record", expires=0.2, task_id="expires-late")
    await until(lambda: time.time() > sent + 0.4)
    gate.open()
    assert await first.get(20) == "celery"
    with pytest.raises(errors.TaskRevokedError, match="expired"):
        await late.get(20)
    assert await late.status() == "REVOKED"
    assert celery_worker.ledger.runs("RUN")[late.id] == 0


# -- revoke ----------------------------------------------------------------------------------------------------


async def test_what_a_celery_client_sent_is_revoked_on_the_queue(
    celery: CeleryClient, queue: AsyncQ, held: Held, redis: Client
) -> None:
    task_id = await celery.send("hold")
    await queue.result(task_id).revoke()
    assert await celery.state(task_id) == "PENDING"  # before any worker has come to it
    async with queue.worker() as worker:
        await until(lambda: worker.stats.revoked == 1)
        with pytest.raises(TaskRevokedError, match="revoked"):
            await celery.get(task_id)
    assert held.runs == []
    assert redis.hlen("unacked") == redis.llen("celery") == 0


async def test_what_a_celery_client_sent_is_revoked_while_it_is_parked(
    celery: CeleryClient, queue: AsyncQ, held: Held
) -> None:
    async with queue.worker() as worker:
        task_id = await celery.send("hold", countdown=1)
        await until(lambda: worker.stats.parked == 1)
        await queue.result(task_id).revoke()
        with pytest.raises(TaskRevokedError, match="revoked"):
            await celery.get(task_id)
        await until(lambda: worker.stats.revoked == 1)  # when it is due
    assert held.runs == []


@pytest.mark.parametrize("terminate", [True, False])
async def test_what_runs_is_revoked_only_if_it_shall_be_terminated(
    celery: CeleryClient, queue: AsyncQ, held: Held, terminate: bool
) -> None:
    async with queue.worker() as worker:
        task_id = await celery.send("hold")
        await until(lambda: held.runs == [task_id])
        await queue.result(task_id).revoke(terminate=terminate)
        if terminate:
            with pytest.raises(TaskRevokedError, match="terminated"):
                await celery.get(task_id)
            assert held.cancelled == [task_id]
            await until(lambda: worker.stats.revoked == 1)
        else:
            # The worker has heard of it once it refuses another one, which was revoked later.
            await queue.result("other").revoke()
            await celery.send("hold", task_id="other")
            await until(lambda: worker.stats.revoked == 1)
            held.end.set()
            assert await celery.get(task_id) == "done"
            assert held.cancelled == []


# -- countdown, and headers of ours ----------------------------------------------------------------------------


async def test_a_celery_worker_runs_what_we_sent_ahead_when_it_is_due(client: AsyncQ) -> None:
    sent = time.time()
    results = [await client.send_task("interop.clock", countdown=countdown) for countdown in (1.5, 1.0, 0.5)]
    ran = [await result.get(20) - sent for result in results]
    assert all(at >= countdown for at, countdown in zip(ran, (1.5, 1.0, 0.5), strict=True))


async def test_the_header_of_a_unique_task_does_a_celery_worker_no_harm(
    client: AsyncQ, celery_worker: CeleryWorker
) -> None:
    @client.task(name="interop.describe", unique=Unique(by="number", on_conflict="raise"))
    async def describe(number: int) -> Any: ...

    results = [await describe.options(headers={"tenant": "acme"}).send(number) for number in (1, 2)]
    for result in results:
        seen = await result.get(20)
        assert (seen["id"], seen["headers"]["tenant"]) == (result.id, "acme")
    async with CeleryClient(celery_worker.url) as celery:
        assert (await celery.get(results[0].id))["id"] == results[0].id
    # Celery gives no claim back: that the task has ended is seen from its result.
    assert not (await describe.send(1)).duplicate
