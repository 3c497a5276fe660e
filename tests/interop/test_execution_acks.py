"""When a message is acknowledged, and what becomes of one that is refused, as Celery sees it in kombu's own keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject as CelerysReject

from asyncq import AsyncQ, Context, Ignore, Reject
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from redis_kit import Client
from waiting import until

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("settings", "options", "late"),
    [
        ({}, {}, True),
        ({}, {"acks_late": False}, False),
        ({"task_acks_late": False}, {}, False),
        ({"task_acks_late": False}, {"acks_late": True}, True),
    ],
    ids=["by default", "the task says early", "the configuration says early", "the task says late"],
)
async def test_a_message_is_unacked_while_a_late_acked_task_runs_and_no_other(
    url: str, redis: Client, celery: CeleryClient, settings: Any, options: Any, late: bool
) -> None:
    runs, end = asyncio.Event(), asyncio.Event()
    async with AsyncQ("interop", broker=url, backend=url) as queue:
        queue.config_from_object(settings)

        @queue.task(name="hold", **options)
        async def hold() -> str:
            runs.set()
            await end.wait()
            return "done"

        async with queue.worker():
            task_id = await celery.send("hold")
            async with asyncio.timeout(20):
                await runs.wait()
            keys = ("unacked", "unacked_index", "asyncq.leases")
            assert [redis.hlen(keys[0]), *map(redis.zcard, keys[1:])] == [int(late)] * 3
            assert redis.llen("celery") == 0
            end.set()
            assert await celery.get(task_id) == "done"
            await until(lambda: not redis.exists(*keys))


# -- refused ---------------------------------------------------------------------------------------------------


async def test_a_rejected_task_has_failed_and_is_kept(celery: CeleryClient, queue: AsyncQ, redis: Client) -> None:
    @queue.task(name="picky")
    async def picky() -> None:
        raise Reject("not today")

    async with queue.worker():
        task_id = await celery.send("picky")
        with pytest.raises(CelerysReject) as raised:
            await celery.get(task_id)
        assert (raised.value.reason, raised.value.requeue) == ("not today", False)
        assert await celery.state(task_id) == "FAILURE"
        await until(lambda: redis.llen("celery.dead") == 1)
        assert redis.hlen("unacked") == 0


@pytest.mark.parametrize("acks_late", [True, False])
async def test_what_is_rejected_to_its_queue_is_run_by_celery(
    url: str, queue: AsyncQ, celery: CeleryClient, tmp_path: Path, acks_late: bool
) -> None:
    """Celery itself would lose it where it was acknowledged early."""

    @queue.task(name="interop.describe", acks_late=acks_late)
    async def describe(ctx: Context) -> None:
        serving.stop()
        raise Reject("somebody else, please", requeue=True)

    task_id = await celery.send("interop.describe", headers={"tenant": "acme"})
    serving = queue.worker()
    await serving.run()
    assert await celery.state(task_id) == "STARTED"
    async with CeleryWorker(url, tmp_path):
        seen = await celery.get(task_id)
    assert (seen["id"], seen["retries"], seen["headers"]["tenant"]) == (task_id, 0, "acme")
    # What was acknowledged early is sent anew: that message was delivered to nobody before.
    assert seen["delivery_info"]["redelivered"] is acks_late


async def test_an_ignored_outcome_leaves_the_state_that_the_task_stored(
    celery: CeleryClient, queue: AsyncQ, redis: Client
) -> None:
    @queue.task(name="shy")
    async def shy(ctx: Context) -> None:
        await ctx.update_state("HANDED_ON", {"to": "warehouse"})
        raise Ignore

    async with queue.worker() as worker:
        task_id = await celery.send("shy")
        await until(lambda: worker.stats.ignored == 1)
        assert await celery.look(task_id, "state", "info") == ["HANDED_ON", {"to": "warehouse"}]
        await until(lambda: redis.hlen("unacked") == 0)


async def test_states_of_ones_own_are_seen_one_after_the_other(celery: CeleryClient, queue: AsyncQ) -> None:
    told, go_on = asyncio.Event(), asyncio.Event()

    @queue.task(name="cook")
    async def cook(ctx: Context) -> str:
        for state, meta in [("MIXING", {"egg": 2}), ("BAKING", [180, "°C"]), ("PROGRESS", 0.5)]:
            await ctx.update_state(state, meta)
            told.set()
            await go_on.wait()
            go_on.clear()
        return "cake"

    async with queue.worker(), asyncio.timeout(30):
        task_id = await celery.send("cook")
        seen: list[Any] = []
        for _ in range(3):
            await told.wait()
            told.clear()
            seen.append(await celery.look(task_id, "state", "info"))
            go_on.set()
        assert seen == [["MIXING", {"egg": 2}], ["BAKING", [180, "°C"]], ["PROGRESS", 0.5]]
        assert await celery.get(task_id) == "cake"
