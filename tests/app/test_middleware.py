"""Middleware around sends and runs, and what tasks find in their context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq import AsyncQ, Context, Lifespan, Middleware, PublishError, Sending


def make_queue(*middleware: Middleware) -> AsyncQ:
    return AsyncQ("shop", broker="memory://", backend="memory://", middleware=middleware)


class Notes(Middleware):
    """Writes down what passes."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story

    async def send(self, sending: Sending, forward: Any) -> None:
        self.story.append(f"{self.name} sends {sending.task.rpartition('.')[2]}{tuple(sending.args)}")
        sending.headers.setdefault("by", self.name)
        await forward()

    async def run(self, ctx: Context, forward: Any) -> Any:
        self.story.append(f"{self.name} runs")
        try:
            value = await forward()
        except ValueError:
            self.story.append(f"{self.name} saw it fail")
            raise
        self.story.append(f"{self.name} ran")
        return value + 1


async def test_it_is_an_onion_around_the_send_and_around_the_run() -> None:
    story: list[str] = []
    queue = make_queue(Notes("a", story), Notes("b", story))

    @queue.task
    async def double(ctx: Context, x: int) -> int:
        story.append(f"the task, sent by {ctx.headers['by']}")
        return 2 * x

    async with queue, queue.worker():
        result = await double.send(5)
        assert await result.get(timeout=5) == 12
    assert story == [
        "a sends double(5,)", "b sends double(5,)", "a runs", "b runs", "the task, sent by a", "b ran", "a ran",
    ]  # fmt: skip


async def test_it_sees_failures_and_stands_around_threads_too() -> None:
    story: list[str] = []
    queue = make_queue(Notes("a", story))

    @queue.task
    def fails() -> int:
        raise ValueError("no")

    async with queue, queue.worker():
        result = await fails.send()
        with pytest.raises(ValueError, match="no"):
            await result.get(timeout=5)
    assert story[-1] == "a saw it fail"


class Refuses(Middleware):
    async def send(self, sending: Sending, forward: Any) -> None:
        if sending.args == (13,):
            raise PermissionError("not thirteen")
        await forward()


class Forgets(Middleware):
    async def send(self, sending: Sending, forward: Any) -> None:
        pass


async def test_a_send_can_be_refused_and_the_others_of_a_batch_go_out() -> None:
    queue = make_queue(Refuses())

    @queue.task
    async def same(x: int) -> int:
        return x

    async with queue:
        with pytest.raises(PermissionError):
            await same.send(13)
        with pytest.raises(PublishError) as caught:
            await queue.send_many([same.s(1), same.s(13), same.s(2)])
        assert {index: type(error) for index, error in caught.value.failures.items()} == {1: PermissionError}
        broker = queue.make_broker()
        assert (await broker.depth("celery")).ready == 2
        await broker.close()


async def test_a_cancellation_from_inside_a_batch_is_not_dropped() -> None:
    class Cancels(Middleware):
        async def send(self, sending: Sending, forward: Any) -> None:
            if sending.args == (13,):
                raise asyncio.CancelledError
            await forward()

    queue = make_queue(Cancels())

    @queue.task
    async def same(x: int) -> int:
        return x

    async with queue:
        with pytest.raises(asyncio.CancelledError):
            await queue.send_many([same.s(1), same.s(13), same.s(2)])


async def test_one_that_forwards_nothing_is_told_off() -> None:
    queue = make_queue(Forgets())

    @queue.task
    async def same(x: int) -> int:
        return x

    async with queue:
        with pytest.raises(RuntimeError, match="was not sent"):
            await same.send(1)


async def test_a_header_of_middleware_goes_with_send_sync() -> None:
    story: list[str] = []
    queue = make_queue(Notes("a", story))

    @queue.task
    async def by(ctx: Context) -> int:
        return len(ctx.headers["by"])

    async with queue, queue.worker():
        result = await asyncio.to_thread(by.send_sync)
        assert await result.get(timeout=5) == 2
    queue._portal.close()


# -- resources -------------------------------------------------------------------------------------------------


async def test_a_lifespan_is_open_while_the_worker_runs() -> None:
    queue = make_queue()
    story: list[str] = []

    @queue.lifespan
    async def first() -> AsyncIterator[str]:
        story.append("first opens")
        yield "one"
        story.append("first closes")

    @queue.lifespan
    async def second() -> AsyncIterator[int]:
        story.append("second opens")
        yield 2
        story.append("second closes")

    @queue.task
    async def uses(ctx: Context) -> list[Any]:
        return [ctx[first], ctx[second]]

    @queue.task
    def uses_in_thread(ctx: Context) -> str:
        return ctx[first]

    async with queue, queue.worker():
        assert await (await uses.send()).get(timeout=5) == ["one", 2]
        assert await (await uses_in_thread.send()).get(timeout=5) == "one"
        assert story == ["first opens", "second opens"]
    assert story[2:] == ["second closes", "first closes"]


async def test_a_lifespan_that_fails_stops_the_start() -> None:
    queue = make_queue()
    story: list[str] = []

    @queue.lifespan
    async def first() -> AsyncIterator[None]:
        try:
            yield
        finally:
            story.append("first closes")

    @queue.lifespan
    async def second() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(ConnectionError, match="no database"):
        async with queue.worker():
            pass
    assert story == ["first closes"]


async def test_a_dependency_is_opened_once_a_run_and_told_how_it_ended() -> None:
    queue = make_queue()
    story: list[str] = []

    @queue.dependency
    async def session(ctx: Context) -> AsyncIterator[list[str]]:
        story.append(f"open {ctx.retries}")
        try:
            yield []
        except ValueError:
            story.append("roll back")
            raise
        story.append("commit")

    @queue.task(max_retries=1, retry_on=(ValueError,), retry_backoff=0.001)
    async def writes(ctx: Context) -> int:
        rows = await ctx.use(session)
        rows.append("row")
        assert await ctx.use(session) is rows
        if ctx.retries == 0:
            raise ValueError("once more")
        return len(rows)

    async with queue, queue.worker():
        assert await (await writes.send()).get(timeout=5) == 1
    assert story == ["open 0", "roll back", "open 1", "commit"]


async def test_a_dependency_that_is_used_side_by_side_is_opened_once() -> None:
    queue = make_queue()
    story: list[str] = []

    @queue.dependency
    async def session(ctx: Context) -> AsyncIterator[int]:
        story.append("open")
        await asyncio.sleep(0)
        if len(story) == 1:
            raise ConnectionError("not yet")
        yield len(story)
        story.append("close")

    @queue.task
    async def uses(ctx: Context) -> list[int | str]:
        used = await asyncio.gather(*[ctx.use(session) for _ in range(3)], return_exceptions=True)
        return [str(each) if isinstance(each, BaseException) else each for each in used]

    async with queue, queue.worker():
        # Who fails to open it is told so; the next one tries again.
        assert await (await uses.send()).get(timeout=5) == ["not yet", 2, 2]
    assert story == ["open", "open", "close"]


async def test_a_dependency_that_cannot_close_fails_the_run() -> None:
    queue = make_queue()

    @queue.dependency
    async def session(ctx: Context) -> AsyncIterator[None]:
        yield
        raise OSError("commit failed")

    @queue.task
    async def writes(ctx: Context) -> str:
        await ctx.use(session)
        return "written"

    async with queue, queue.worker():
        with pytest.raises(OSError, match="commit failed"):
            await (await writes.send()).get(timeout=5)


async def test_what_is_not_open_is_a_lookup_error() -> None:
    queue = make_queue()

    async def elsewhere() -> AsyncIterator[int]:
        yield 1

    foreign = Lifespan(elsewhere)

    @queue.task
    async def uses(ctx: Context) -> int:
        return ctx[foreign]

    with pytest.raises(LookupError, match="without a worker"):
        await uses()
    async with queue, queue.worker():
        with pytest.raises(LookupError, match="another app"):
            await (await uses.send()).get(timeout=5)
