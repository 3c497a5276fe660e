"""asyncq sends, a real Celery worker runs: what can be said of a call."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from redis import Redis

from asyncq import AsyncQ, Context
from asyncq.errors import TaskRevokedError
from interop.celery_worker import CeleryWorker
from waiting import until

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([], {}),
        ([1, 2.5, "drei", None, True], {}),
        ([], {"a": 1, "b": [2, {"c": "ü€😀"}]}),
        ([[1, [2]], {"k": {}}], {"x": "y" * 10_000}),
        ([float("inf"), 2**70, -0.0], {"": ""}),
    ],
)
async def test_arguments_arrive_as_they_were_sent(client: AsyncQ, args: list[Any], kwargs: dict[str, Any]) -> None:
    result = await client.send_task("interop.echo", args, kwargs)
    assert await result.get(10) == [args, kwargs]


async def test_every_way_of_sending_is_understood(client: AsyncQ) -> None:
    @client.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int: ...

    sent = [
        await add.send(1, b=2),
        await add.delay(1, 2),
        await add.apply_async((1,), {"b": 2}, priority=3),
        await add.options(priority=6, countdown=0.05).send(1, 2),
        await add.s(1, 2).send(),
        await add.si(1, b=2).send(),
        await client.send_task("interop.add", [1, 2]),
        await asyncio.to_thread(add.send_sync, 1, 2),
    ]
    assert [await result.get(10) for result in sent] == [3] * len(sent)


async def test_a_batch_is_sent_in_one_go(client: AsyncQ) -> None:
    @client.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int: ...

    results = await client.send_many([add.s(number, b=1) for number in range(100)])
    assert [await result.get(10) for result in results] == list(range(1, 101))


_FAR_EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "options",
    [
        lambda now: {"countdown": 0.3},
        lambda now: {"eta": now + timedelta(seconds=0.3)},
        lambda now: {"eta": (now + timedelta(seconds=0.3)).astimezone(_FAR_EAST)},
        lambda now: {"eta": (now + timedelta(seconds=0.3)).replace(tzinfo=None)},
    ],
    ids=["countdown", "eta", "eta with an offset", "naive eta, which is UTC"],
)
async def test_a_task_with_an_eta_is_run_when_it_is_due(client: AsyncQ, options: Any) -> None:
    sent = time.time()
    result = await client.send_task("interop.clock", **options(datetime.fromtimestamp(sent, UTC)))
    assert 0.3 <= await result.get(10) - sent < 3


@pytest.mark.parametrize(
    "options",
    [
        {"expires": -1},
        {"expires": timedelta(seconds=-1)},
        {"expires": datetime(2020, 1, 1, tzinfo=UTC)},
        {"countdown": 0.3, "expires": 0.1},
    ],
    ids=["seconds", "timedelta", "datetime", "before its eta"],
)
async def test_what_has_expired_is_revoked_and_not_run(client: AsyncQ, options: Any) -> None:
    result = await client.send_task("interop.fail", ["builtin"], **options)
    with pytest.raises(TaskRevokedError, match="expired"):
        await result.get(10)
    assert await result.status() == "REVOKED"


@pytest.mark.parametrize("expires", [60, datetime(2090, 1, 1, tzinfo=UTC)], ids=["seconds", "datetime"])
async def test_what_has_not_expired_is_run(client: AsyncQ, expires: Any) -> None:
    result = await client.send_task("interop.add", [1, 2], expires=expires)
    assert await result.get(10) == 3


async def test_priority_steps_are_served_in_order(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    """The worker runs one task at a time, and the first one until all others stand on the queue."""
    gate = celery_worker.gate("priorities")
    blocker = await client.send_task("interop.hold", [str(gate.path)])
    await until(lambda: _is_started(blocker))
    sent = [
        await client.send_task("interop.record", priority=number, task_id=f"priority-{number}")
        for number in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
    ]
    gate.open()
    for result in sent:
        await result.get(10)
    runs = [entry.task_id for entry in celery_worker.ledger.entries("RUN")]
    assert [int(name[-1]) for name in runs if name.startswith("priority-")] == [2, 1, 0, 5, 4, 3, 8, 7, 6, 9]


async def _is_started(result: Any) -> bool:
    return await result.status() == "STARTED"


async def test_what_celery_makes_of_our_message(client: AsyncQ) -> None:
    @client.task(name="interop.describe")
    async def describe() -> dict[str, Any]: ...

    headers = {"tenant": "acme", "trace": {"span": [1, 2]}}
    call = describe.options(
        task_id="order:42/ä b", priority=7, headers=headers, shadow="seen", time_limit=30, soft_time_limit=20.5
    )
    result = await call.send()
    seen = await result.get(10)

    assert result.id == seen["id"] == seen["root_id"] == seen["correlation_id"] == "order:42/ä b"
    assert (seen["parent_id"], seen["retries"], seen["shadow"]) == (None, 0, "seen")
    assert seen["timelimit"] == [30, 20.5]
    assert seen["headers"] == headers
    assert seen["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 7, "redelivered": False}
    assert (seen["argsrepr"], seen["kwargsrepr"]) == ("()", "{}")
    assert seen["ignore_result"] is False
    assert seen["origin"].startswith("gen")
    assert seen["reply_to"]


async def test_dates_are_written_as_celery_reads_them(celery_worker: CeleryWorker) -> None:
    url = celery_worker.url
    async with AsyncQ("client", broker=url, backend=url, timezone="Asia/Kolkata") as client:
        sent = time.time()
        result = await client.send_task("interop.describe", countdown=0.2, expires=60)
        seen = await result.get(10)
    eta, expires = datetime.fromisoformat(seen["eta"]), datetime.fromisoformat(seen["expires"])
    assert eta.utcoffset() == expires.utcoffset() == timedelta(hours=5, minutes=30)
    assert eta.timestamp() - sent == pytest.approx(0.2, abs=0.1)
    assert expires.timestamp() - sent == pytest.approx(60, abs=0.1)


async def test_arguments_are_shown_as_shapes(client: AsyncQ) -> None:
    """They stand in headers, which logs and monitors show."""
    result = await client.send_task("interop.describe", ["s3cret", 7], {"password": "hunter2"})
    seen = await result.get(10)
    assert (seen["argsrepr"], seen["kwargsrepr"]) == ("(<str 6>, <int>)", "{'password': <secret>}")


async def test_an_ignored_result_is_waited_for_by_nobody(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    result = await client.send_task("interop.record", ignore_result=True, task_id="quiet")
    assert await result.get(10) is None
    await until(lambda: celery_worker.ledger.runs("RUN")["quiet"] == 1)
    after = await client.send_task("interop.add", [1])  # the worker runs one at a time: `quiet` has ended by then
    assert await after.get(10) == 1
    with Redis.from_url(celery_worker.url) as redis:
        assert not redis.exists("celery-task-meta-quiet")
    assert await client.result("quiet").status() == "PENDING"


async def test_a_celery_task_in_the_middle_passes_the_lineage_on(client: AsyncQ) -> None:
    @client.task(name="begin")
    async def begin() -> str:
        return (await client.send_task("interop.delegate", ["finish", "ours"])).id

    @client.task(name="finish")
    async def finish(ctx: Context) -> list[str | None]:
        return [ctx.parent_id, ctx.root_id]

    async with client.worker(queues=["ours"]):
        begun = await begin.options(queue="ours").send()
        middle = await begun.get(10)
        last = await client.result(middle).get(10)
        assert await client.result(last).get(10) == [middle, begun.id]
