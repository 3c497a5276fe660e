"""A real Celery client waits for what an asyncq worker made of its tasks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import MaxRetriesExceededError, NotRegistered
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import ResultSet
from kombu.exceptions import EncodeError

from asyncq import AsyncQ, Context, Ignore
from interop.celery_client import CeleryClient
from interop.failures import OutOfStock, unknown_class
from waiting import until

pytestmark = pytest.mark.interop


async def test_a_thousand_results_are_joined(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    def send_and_join(app: Celery) -> list[int]:
        return ResultSet([app.send_task("double", [number]) for number in range(1000)]).join(timeout=20)

    async with queue.worker() as worker:
        assert await celery.run(send_and_join) == [2 * number for number in range(1000)]
        await until(lambda: worker.stats.succeeded == 1000)


async def test_a_result_that_was_there_first_is_read(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="add")
    async def add(a: int, b: int) -> int:
        return a + b

    async with queue.worker():
        result = await add.send(1, 2)
        assert await result.get(10) == 3
        assert await celery.get(result.id) == 3
        assert await celery.look(result.id, "state", "children", "traceback") == ["SUCCESS", [], None]


# -- failures --------------------------------------------------------------------------------------------------


async def test_a_builtin_exception_is_raised_again(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="fail")
    async def fail() -> None:
        raise ValueError("boom", 1)

    async with queue.worker():
        task_id = await celery.send("fail")
        with pytest.raises(ValueError, match="boom") as raised:
            await celery.get(task_id)
        assert type(raised.value) is ValueError
        assert raised.value.args == ("boom", 1)
        state, traceback = await celery.look(task_id, "state", "traceback")
        assert state == "FAILURE"
        assert 'raise ValueError("boom", 1)' in traceback
        assert traceback.endswith("ValueError: ('boom', 1)\n")


async def test_a_class_that_both_sides_know_is_raised_again(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="fail")
    async def fail() -> None:
        raise OutOfStock("apples", 3)

    async with queue.worker():
        with pytest.raises(OutOfStock) as raised:
            await celery.call("fail")
        assert (raised.value.item, raised.value.left) == ("apples", 3)


async def test_a_class_that_the_client_does_not_know_keeps_its_name(celery: CeleryClient, queue: AsyncQ) -> None:
    strange = unknown_class()

    @queue.task(name="fail")
    def fail() -> None:
        raise strange("nowhere", 2)

    async with queue.worker():
        with pytest.raises(Exception, match="nowhere") as raised:
            await celery.call("fail")
        assert type(raised.value).__name__ == "Strange"
        assert raised.value.args == ("nowhere", 2)


async def test_exception_arguments_that_cannot_travel_arrive_as_text(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="fail")
    async def fail() -> None:
        raise ValueError({1, 2}, "and")

    async with queue.worker():
        with pytest.raises(ValueError) as raised:
            await celery.call("fail")
        assert raised.value.args == ("{1, 2}", "and")


async def test_a_result_that_cannot_travel_is_celerys_encode_error(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="bad")
    async def bad() -> object:
        return object()

    async with queue.worker():
        with pytest.raises(EncodeError, match="not JSON serializable"):
            await celery.call("bad")


async def test_arguments_that_do_not_fit_name_the_field(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="add")
    async def add(a: int, b: int) -> int:
        return a + b

    async with queue.worker() as worker:
        with pytest.raises(Exception, match="b"):
            await celery.call("add", [1, "two"])
        with pytest.raises(Exception, match="b"):
            await celery.call("add", [1])
        await until(lambda: worker.stats.failed == 2)
        assert worker.stats.retried == 0


async def test_nobody_waits_in_vain_for_a_task_that_nobody_knows(url: str, celery: CeleryClient) -> None:
    async with AsyncQ("interop", broker=url, backend=url, unknown_task_timeout=0) as queue, queue.worker() as worker:
        task_id = await celery.send("shop.unknown")
        with pytest.raises(NotRegistered, match=r"shop\.unknown"):
            await celery.get(task_id)
        assert await celery.state(task_id) == "FAILURE"
        await until(lambda: worker.stats.dead == 1)


# -- states ----------------------------------------------------------------------------------------------------


async def test_started_and_progress_are_seen(celery: CeleryClient, queue: AsyncQ) -> None:
    go_on, end = asyncio.Event(), asyncio.Event()

    @queue.task(name="slow")
    async def slow(ctx: Context) -> str:
        await go_on.wait()
        await ctx.progress({"current": 5, "total": 9})
        await end.wait()
        return "done"

    async def look() -> tuple[str, Any]:
        state, info = await celery.look(task_id, "state", "info")
        return state, info

    async def is_progress() -> bool:
        return (await look())[0] == "PROGRESS"

    async def is_started() -> bool:
        return (await look())[0] == "STARTED"

    async with queue.worker(name="w1"):
        task_id = await celery.send("slow")
        await until(is_started)
        _, info = await look()
        assert info["hostname"] == f"w1@{socket.gethostname()}"
        go_on.set()
        await until(is_progress)
        assert await look() == ("PROGRESS", {"current": 5, "total": 9})
        with pytest.raises(CeleryTimeout):
            await celery.get(task_id, timeout=0.05)
        end.set()
        assert await celery.get(task_id) == "done"


async def test_a_retry_is_seen_with_its_reason(celery: CeleryClient, queue: AsyncQ) -> None:
    end = asyncio.Event()

    @queue.task(name="flaky", track_started=False)  # a STARTED of the second attempt would hide the RETRY
    async def flaky(ctx: Context) -> int:
        if ctx.retries == 0:
            raise ctx.retry(exc=OSError("not yet"), countdown=0.1)
        await end.wait()
        return ctx.retries

    async def is_retry() -> bool:
        return await celery.state(task_id) == "RETRY"

    async with queue.worker():
        task_id = await celery.send("flaky")
        await until(is_retry)
        info, traceback = await celery.look(task_id, "info", "traceback")
        assert isinstance(info, OSError)
        assert info.args == ("not yet",)
        assert "Retry in 1s" in traceback  # what celery-progress reads
        end.set()
        assert await celery.get(task_id) == 1


async def test_a_task_that_is_retried_by_itself_ends_well(celery: CeleryClient, queue: AsyncQ) -> None:
    attempts: list[int] = []

    @queue.task(name="flaky", retry_on=(OSError,), retry_backoff=0.01)
    async def flaky(ctx: Context) -> int:
        attempts.append(ctx.retries)
        if ctx.retries < 2:
            raise OSError("again")
        return len(attempts)

    async with queue.worker():
        assert await celery.call("flaky") == 3
    assert attempts == [0, 1, 2]


async def test_when_retries_are_spent_the_reason_is_raised(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="hopeless", retry_on=(OSError,), max_retries=1, retry_backoff=0.01)
    async def hopeless() -> None:
        raise OSError("never")

    @queue.task(name="aimless", max_retries=0)
    async def aimless(ctx: Context) -> None:
        raise ctx.retry()

    async with queue.worker():
        with pytest.raises(OSError, match="never"):
            await celery.call("hopeless")
        with pytest.raises(MaxRetriesExceededError):
            await celery.call("aimless")


async def test_an_ignored_outcome_stays_started(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="shy")
    async def shy() -> None:
        raise Ignore

    async with queue.worker() as worker:
        task_id = await celery.send("shy")
        await until(lambda: worker.stats.ignored == 1)
        assert await celery.state(task_id) == "STARTED"


# -- the rest of the record --------------------------------------------------------------------------------------


async def test_an_extended_record_says_all_that_celerys_says(url: str) -> None:
    async with (
        AsyncQ("interop", broker=url, backend=url, result_extended=True, timezone="Asia/Kolkata") as queue,
        CeleryClient(url, result_extended=True) as celery,
    ):

        @queue.task(name="add")
        async def add(a: int, b: int) -> int:
            return a + b

        async with queue.worker(name="w1"):
            task_id = await celery.send("add", [1], {"b": 2}, queue="celery")
            assert await celery.get(task_id) == 3
            name, args, kwargs = await celery.look(task_id, "name", "args", "kwargs")
            assert (name, args, kwargs) == ("add", [1], {"b": 2})
            worker, retries, routed, done = await celery.look(task_id, "worker", "retries", "queue", "date_done")
            assert (worker, retries, routed) == (f"w1@{socket.gethostname()}", 0, "celery")
            assert done.utcoffset().total_seconds() == 5.5 * 3600


async def test_a_client_finds_the_children_of_a_task(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="child")
    async def child(ctx: Context, number: int) -> Any:
        return [number, ctx.parent_id, ctx.root_id]

    @queue.task(name="parent")
    async def parent() -> list[str]:
        return [(await child.send(number)).id for number in (1, 2)]

    def children(app: Celery) -> list[Any]:
        result = app.AsyncResult(task_id)
        return [(each.id, each.get(timeout=10)) for each in result.children]

    async with queue.worker():
        task_id = await celery.send("parent", root_id="root")
        first, second = await celery.get(task_id)
        assert await celery.run(children) == [
            (first, [1, task_id, "root"]),
            (second, [2, task_id, "root"]),
        ]


async def test_a_client_forgets_a_result(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="add")
    async def add(a: int, b: int) -> int:
        return a + b

    async with queue.worker():
        result = await add.send(1, 2)
        assert await result.get(10) == 3
        await celery.run(lambda app: app.AsyncResult(result.id).forget())
        assert await result.status() == "PENDING"


async def test_a_blocking_task_answers_like_a_coroutine(celery: CeleryClient, queue: AsyncQ) -> None:
    @queue.task(name="blocking")
    def blocking(n: int) -> int:
        return n + 1

    async with queue.worker(threads=4):
        ids = [await celery.send("blocking", [n]) for n in range(20)]
        assert [await celery.get(task_id) for task_id in ids] == list(range(1, 21))
