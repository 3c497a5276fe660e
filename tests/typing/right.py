"""What must type-check, in pyright's strict mode and in mypy's."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from asyncq import (
    AsyncQ,
    AsyncResult,
    Context,
    Group,
    GroupResult,
    Signature,
    Task,
    TaskState,
    chain,
    chord,
    group,
)
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
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@queue.task
async def size(content: bytes) -> int:
    return len(content)


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


async def chains() -> None:
    assert_type(fetch.s("u") | size.s(), Signature[int])
    assert_type(fetch.s("u") | size.s() | add.s(3), Signature[int])
    assert_type(fetch.s("u") | resize.si(1), Signature[list[int]])
    assert_type(chain(fetch.s("u"), size.s(), add.s(1), add.s(2), add.s(3)), Signature[Any])
    print(size.s() | add.s(1))
    assert_type(chain(fetch.s("u"), size.s()), Signature[int])
    assert_type(chain(fetch.s("u"), size.s(), add.s(1)), Signature[int])
    assert_type(await (fetch.s("u") | size.s()).send(), AsyncResult[int])
    assert_type((fetch.s("u") | size.s()).link(add.s(1)).set(countdown=5).clone(), Signature[int])
    assert_type(fetch.s("u").on_error(free.s()).stamp(tenant="acme"), Signature[bytes])


async def groups() -> None:
    assert_type(group([fetch.s("a"), fetch.s("b")]), Group[bytes])
    assert_type(group(fetch.s(url) for url in "abc"), Group[bytes])
    assert_type(group(fetch.s("a"), fetch.s("b")), Group[bytes])
    assert_type(add.s(1, 2) | group([add.s(1), add.s(2)]), Signature[list[int]])
    sent = await group([fetch.s("a")]).set(priority=3).send()
    assert_type(sent, GroupResult[bytes])
    assert_type(await sent.get(), list[bytes])
    assert_type(await sent.join(propagate=False), list[bytes | Exception])
    async for result in sent.as_completed():
        assert_type(result, AsyncResult[bytes])
    assert_type(add.map([1, 2]), Signature[list[int]])
    assert_type(add.starmap([(1, 2)]), Signature[list[int]])
    assert_type(add.chunks([(1, 2)], 10), Group[list[int]])


async def chords() -> None:
    numbers = [fetch.s("u") | size.s()]
    assert_type(group(numbers) | total.s(), Signature[int])
    assert_type(chord(numbers, total.s()), Signature[int])
    assert_type(chord(numbers)(total.s()), Signature[int])
    assert_type(chord(numbers) | total.s(), Signature[int])
    assert_type(add.s(1, 2) | chord([add.s(1), add.s(2)], total.s()), Signature[int])
    assert_type(chord(numbers, free.s(), on_error="collect", threshold=0.9), Signature[int])


def any_task(task: Task[[int, int], int]) -> None:
    assert_type(task.name, str)


any_task(add)


async def workers() -> None:
    async with queue, queue.worker(concurrency=500, burst=True) as worker:
        assert_type(worker, Worker)
    await queue.run_worker(queues=["a"])
