"""What must type-check, in pyright's strict mode and in mypy's."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from asyncq import AsyncQ, AsyncResult, Context, Signature, Task, TaskState
from asyncq.worker import Worker

queue = AsyncQ("shop", broker="redis://…", backend="redis://…", concurrency=5, task_track_started=True)


@queue.task
async def add(a: int, b: int) -> int:
    return a + b


@queue.task(max_retries=5, retry_on=(OSError,), time_limit=30, queue="slow")
async def fetch(url: str, *, depth: int = 1) -> bytes:
    return url.encode()


@queue.task
def resize(*sizes: int) -> list[int]:
    return list(sizes)


@queue.task
async def report(ctx: Context, ids: list[int]) -> None:
    await ctx.progress({"done": 0, "total": len(ids)})
    raise ctx.retry(countdown=5)


@queue.task(ignore_result=True)
def log(ctx: Context, text: str = "") -> str:
    return f"{ctx.task_id} {text}"


@queue.task
def free(message: object) -> int:
    return 1


async def calls() -> None:
    assert_type(await add(1, 2), int)
    coroutine: Coroutine[Any, Any, int] = add(1, 2)
    await coroutine
    assert_type(resize(1, 2, 3), list[int])
    assert_type(log("x"), str)
    await report([1])


async def sends() -> None:
    assert_type(await add.send(1, 2), AsyncResult[int])
    assert_type(await add.send(1, b=2), AsyncResult[int])
    assert_type(await fetch.send("https://…", depth=2), AsyncResult[bytes])
    assert_type(await resize.send(1, 2, 3), AsyncResult[list[int]])
    assert_type(await report.send([1]), AsyncResult[None])
    assert_type(await log.send("x"), AsyncResult[str])
    assert_type(await free.send("anything", at=1), AsyncResult[int])
    assert_type(await add.delay(1, 2), AsyncResult[int])
    assert_type(await add.apply_async((1, 2), countdown=5, queue="slow"), AsyncResult[int])
    assert_type(add.send_sync(1, 2), AsyncResult[int])
    assert_type(await add.options(countdown=5, priority=9).send(1, 2), AsyncResult[int])
    await add.options(eta=datetime.now(UTC), expires=timedelta(hours=1), headers={"a": 1}).send(1, 2)
    assert_type(await queue.send_task("elsewhere", [1], {"b": 2}, expires=60), AsyncResult[Any])


async def results() -> None:
    result = await add.send(1, 2)
    assert_type(await result.get(timeout=10), int)
    assert_type(await result.get(10, propagate=True), int)
    assert_type(await result.get(propagate=False), int | Exception)
    assert_type(result.get_sync(5), int)
    assert_type(await result.status(), str)
    assert_type(await result.ready(), bool)
    async for state in result:
        assert_type(state, TaskState)
    wider: AsyncResult[float] = result
    await wider.forget()


async def signatures() -> None:
    assert_type(add.s(1, 2), Signature[int])
    assert_type(add.si(1, 2), Signature[int])
    assert_type(add.options(priority=1).s(1, 2), Signature[int])
    assert_type(await add.s(1, 2).send(), AsyncResult[int])
    assert_type(await queue.send_many([fetch.s("a"), fetch.s("b", depth=2)]), list[AsyncResult[bytes]])
    add.s(2)  # lacks its first argument: a step of a chain


def any_task(task: Task[[int, int], int]) -> None:
    assert_type(task.name, str)


any_task(add)


async def workers() -> None:
    async with queue, queue.worker(concurrency=500, burst=True) as worker:
        assert_type(worker, Worker)
    await queue.run_worker(queues=["a"])
