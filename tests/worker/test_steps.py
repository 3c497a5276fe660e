"""A task's coroutine that is driven step by step: whose step runs is known, and nothing else is different."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest

from asyncq.errors import SoftTimeLimitExceeded
from asyncq.worker._steps import SoftLimit, steps

FOR_EVER = 3600.0


class Flight:
    """A task in a slot."""

    def __init__(self, slot: int = 7) -> None:
        self.slot = slot


class Mark:
    """The place where the slot of the running step stands."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(4)).cast("I")

    def __call__(self) -> int:
        return self.memory[0]

    async def drive(self, coroutine: Coroutine[Any, Any, Any], flight: Flight | None = None) -> Any:
        return await steps(coroutine, flight or Flight(), self.memory)


@pytest.fixture
def mark() -> Mark:
    return Mark()


async def test_the_mark_stands_while_a_step_runs_and_not_while_it_waits(mark: Mark) -> None:
    inside: list[int] = []
    go_on = asyncio.Event()

    async def body() -> str:
        inside.append(mark())
        await go_on.wait()
        inside.append(mark())
        await asyncio.sleep(0)
        inside.append(mark())
        return "done"

    task = asyncio.create_task(mark.drive(body()))
    await asyncio.sleep(0)
    assert (inside, mark()) == ([7], 0)
    go_on.set()
    assert await task == "done"
    assert (inside, mark()) == ([7, 7, 7], 0)


async def test_two_tasks_in_turn_each_have_their_own(mark: Mark) -> None:
    seen: set[tuple[int, int]] = set()

    async def body(slot: int) -> None:
        for _ in range(10):
            seen.add((slot, mark()))
            await asyncio.sleep(0)

    await asyncio.gather(*[mark.drive(body(slot), Flight(slot)) for slot in (1, 2, 3)])
    assert seen == {(1, 1), (2, 2), (3, 3)}


async def test_a_task_that_has_left_the_table_marks_nobody(mark: Mark) -> None:
    flight = Flight()
    inside: list[int] = []

    async def body() -> None:
        inside.append(mark())
        await asyncio.sleep(0)
        inside.append(mark())

    task = asyncio.create_task(mark.drive(body(), flight))
    await asyncio.sleep(0)
    flight.slot = 0
    await task
    assert inside == [7, 0]


async def test_what_a_step_raises_passes_and_the_mark_is_taken_back(mark: Mark) -> None:
    async def at_once() -> None:
        raise LookupError

    async def later() -> None:
        await asyncio.sleep(0)
        raise LookupError

    for body in (at_once, later):
        with pytest.raises(LookupError):
            await mark.drive(body())
        assert mark() == 0


async def test_a_cancellation_arrives_in_a_marked_step_and_may_be_answered(mark: Mark) -> None:
    async def body() -> tuple[str, int]:
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            marked = mark()
            await asyncio.sleep(0)
            return "cleaned up", marked
        return "never", 0

    task = asyncio.create_task(mark.drive(body()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == ("cleaned up", 7)
    assert mark() == 0


async def test_the_error_of_what_it_waits_for_is_raised_where_it_waits(mark: Mark) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def body() -> str:
        with pytest.raises(ZeroDivisionError):
            await future
        return "caught"

    task = asyncio.create_task(mark.drive(body()))
    await asyncio.sleep(0)
    future.set_exception(ZeroDivisionError())
    assert await task == "caught"


async def test_a_coroutine_that_is_left_half_way_is_closed(mark: Mark) -> None:
    closed: list[int] = []

    async def body() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            closed.append(mark())

    driven = mark.drive(body())
    driven.send(None)
    driven.close()
    assert (closed, mark()) == ([7], 0)


async def group_that_fails() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, FOR_EVER)
        await asyncio.sleep(0)
        raise LookupError


async def test_anyios_scopes_work_in_it_as_ever(mark: Mark) -> None:
    async def body() -> list[str]:
        told: list[str] = []
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(FOR_EVER)
        told.append(f"moved on: {scope.cancelled_caught}")
        with pytest.raises(ExceptionGroup):
            await group_that_fails()
        with anyio.CancelScope() as outer:
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                told.append("shielded")
            await asyncio.sleep(0)
        told.append(f"cancelled: {outer.cancelled_caught}")
        return told

    assert await mark.drive(body()) == ["moved on: True", "shielded", "cancelled: True"]
    assert mark() == 0


async def test_a_soft_limit_and_the_mark_go_together(mark: Mark) -> None:
    async def body() -> tuple[str, int]:
        try:
            await asyncio.sleep(FOR_EVER)
        except SoftTimeLimitExceeded:
            return "limited", mark()
        return "never", 0

    with SoftLimit(0.01) as limit:
        assert await steps(body(), Flight(), mark.memory, limit.translate) == ("limited", 7)
    assert mark() == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
