"""A real Celery client sends, an asyncq worker runs: what can be said of a call."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery import Celery
from celery.exceptions import TaskRevokedError
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue

from asyncq import AsyncQ, Context, Queue
from interop.celery_client import CeleryClient
from redis_kit import Client
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
async def test_arguments_arrive_as_they_were_sent(
    celery: CeleryClient, queue: AsyncQ, args: list[Any], kwargs: dict[str, Any]
) -> None:
    @queue.task(name="echo")
    async def echo(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    async with queue.worker():
        assert await celery.call("echo", args, kwargs) == [args, kwargs]


async def test_a_celery_task_object_sends_as_send_task_does(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="add")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    def use_task(app: Celery) -> list[Any]:
        def stub(a: int, b: int = 0) -> None: ...

        task: Any = app.task(stub, name="add")
        sent = [task.delay(1, b=2), task.apply_async((3,)), task.s(4, 5).apply_async(), task.si(6).delay()]
        return [result.get(timeout=10) for result in sent]

    async with queue.worker():
        assert await celery.run(use_task) == [3, 3, 9, 6]


async def test_a_message_of_protocol_1_is_run(url: str, queue: AsyncQ) -> None:
    @queue.task(name="add")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    async with CeleryClient(url, task_protocol=1) as celery, queue.worker():
        assert await celery.call("add", [1], {"b": 2}) == 3


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
async def test_a_task_with_an_eta_is_run_when_it_is_due(celery: CeleryClient, queue: AsyncQ, options: Any) -> None:
    @queue.task(name="clock")
    async def clock() -> float:
        return time.time()

    async with queue.worker():
        sent = time.time()
        ran = await celery.call("clock", **options(datetime.fromtimestamp(sent, UTC)))
        assert 0.3 <= ran - sent < 3


async def test_an_eta_in_the_past_means_now(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="clock")
    async def clock() -> float:
        return time.time()

    async with queue.worker() as worker:
        await celery.call("clock", eta=datetime.now(UTC) - timedelta(hours=1))
        assert worker.stats.parked == 0


@pytest.mark.parametrize(
    "options",
    [
        {"expires": -1},
        {"expires": datetime(2020, 1, 1, tzinfo=UTC)},
        {"countdown": 0.3, "expires": 0.1},
    ],
    ids=["seconds", "datetime", "before its eta"],
)
async def test_what_has_expired_is_revoked_and_not_run(
    celery: CeleryClient, queue: AsyncQ, options: dict[str, Any]
) -> None:
    @queue.task(name="never")
    async def never() -> None:
        raise AssertionError("it ran")

    async with queue.worker() as worker:
        task_id = await celery.send("never", **options)
        with pytest.raises(TaskRevokedError, match="expired"):
            await celery.get(task_id)
        assert await celery.state(task_id) == "REVOKED"
        assert worker.stats.failed == 0


@pytest.mark.parametrize("expires", [60, datetime(2090, 1, 1, tzinfo=UTC)], ids=["seconds", "datetime"])
async def test_what_has_not_expired_is_run(celery: CeleryClient, queue: AsyncQ, expires: Any) -> None:
    @queue.task(name="yes")
    async def yes() -> str:
        return "ran"

    async with queue.worker():
        assert await celery.call("yes", expires=expires) == "ran"


async def test_priority_steps_are_served_in_celerys_order(celery: CeleryClient, queue: AsyncQ) -> None:
    """On Redis 0 comes first; a step holds three numbers, and is first in, first out."""
    served: list[int] = []

    @queue.task(name="note")
    async def note(priority: int) -> None:
        served.append(priority)

    ids = [await celery.send("note", [number], priority=number) for number in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    async with queue.worker(concurrency=1):
        for task_id in ids:
            await celery.get(task_id)
    assert served == [2, 1, 0, 5, 4, 3, 8, 7, 6, 9]


async def test_a_task_keeps_the_id_that_its_sender_chose(celery: CeleryClient, queue: AsyncQ, redis: Client) -> None:
    @queue.task(name="who")
    async def who(ctx: Context) -> str:
        return ctx.task_id

    async with queue.worker():
        assert await celery.call("who", task_id="order:42/ä b") == "order:42/ä b"
    assert redis.exists("celery-task-meta-order:42/ä b")


async def test_an_ignored_result_is_kept_nowhere(celery: CeleryClient, queue: AsyncQ, redis: Client) -> None:
    ran: list[str] = []

    @queue.task(name="quiet")
    async def quiet(ctx: Context) -> str:
        ran.append(ctx.task_id)
        return "value"

    async with queue.worker():
        task_id = await celery.send("quiet", ignore_result=True)
        await until(lambda: ran == [task_id])
        assert await celery.get(task_id) is None
    assert not redis.keys("celery-task-meta-*")


async def test_ignore_result_of_the_call_beats_that_of_the_task(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="quiet", ignore_result=True)
    async def quiet() -> str:
        return "value"

    async with queue.worker():
        assert await celery.call("quiet", ignore_result=False) == "value"


async def test_a_hard_time_limit_of_the_call_is_kept(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="endless")
    async def endless() -> None:
        await until(lambda: False, timeout=60)

    async with queue.worker():
        with pytest.raises(TimeLimitExceeded):
            await celery.call("endless", time_limit=0.2)


async def test_the_senders_headers_and_lineage_are_in_the_context(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="look")
    async def look(ctx: Context) -> Any:
        return [dict(ctx.headers), ctx.root_id, ctx.parent_id, ctx.message.shadow]

    async with queue.worker():
        headers = {"tenant": "acme", "trace": {"span": [1, 2]}}
        seen = await celery.call("look", headers=headers, root_id="r", parent_id="p", shadow="looker")
        assert seen == [headers, "r", "p", "looker"]


async def test_a_message_finds_a_queue_through_its_exchange(url: str) -> None:
    theirs = KombuQueue("orders", Exchange("shop", type="topic"), routing_key="order.#")
    ours = Queue(name="orders", exchange="shop", exchange_type="topic", routing_key="order.#")
    async with (
        AsyncQ("interop", broker=url, backend=url, queues=[ours], default_queue="orders") as queue,
        CeleryClient(url, task_queues=[theirs]) as celery,
    ):

        @queue.task(name="where")
        async def where(ctx: Context) -> str:
            return ctx.queue

        async with queue.worker():
            assert await celery.call("where", queue="orders") == "orders"
            assert await celery.call("where", exchange="shop", routing_key="order.paid.late") == "orders"


async def test_a_worker_serves_several_queues(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="where")
    async def where(ctx: Context) -> str:
        return ctx.queue

    async with queue.worker(queues=["one", "two.three"]):
        assert await celery.call("where", queue="one") == "one"
        assert await celery.call("where", queue="two.three") == "two.three"


@pytest.mark.parametrize("prefix", ["team1", "team1:"])
async def test_all_keys_stand_under_celerys_global_keyprefix(url: str, redis: Client, prefix: str) -> None:
    options: dict[str, Any] = {
        "broker_transport_options": {"global_keyprefix": prefix},
        "result_backend_transport_options": {"global_keyprefix": prefix},
    }
    async with (
        AsyncQ("interop", broker=url, backend=url, **options) as queue,
        CeleryClient(url, **options) as celery,
    ):

        @queue.task(name="add")
        async def add(a: int, b: int) -> int:
            return a + b

        async with queue.worker():
            assert await celery.call("add", [1, 2]) == 3
            later = await celery.send("add", [3, 4], countdown=60)
            await until(lambda: bool(redis.keys("*parked*")))
        keys = [key.decode() for key in redis.keys("*")]
        assert keys
        assert [key for key in keys if not key.startswith(prefix)] == []
        assert await celery.state(later) == "PENDING"
