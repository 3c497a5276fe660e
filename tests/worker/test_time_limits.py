"""Soft and hard limits: on the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from asyncq.errors import SoftTimeLimitExceeded
from asyncq.worker._steps import SoftLimit, steps
from asyncq.worker._time_limits import InterruptibleCall, lower
from simulation.world import World
from virtual import virtual
from worker import process_tasks
from worker.bench import Bench, reaches

FOR_EVER = 3600.0


# -- the soft limit itself -------------------------------------------------------------------------------------


class Flight:
    slot = 1


async def limited(coroutine: Any, seconds: float) -> Any:
    """Await a coroutine under a soft limit."""
    with SoftLimit(seconds) as limit:
        return await steps(coroutine, Flight(), None, limit.translate)


cancelled: list[str] = []


async def child(name: str) -> None:
    try:
        await asyncio.sleep(FOR_EVER)
    except asyncio.CancelledError:
        cancelled.append(name)
        raise


async def children_of_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child("a"))
        group.create_task(child("b"))


async def body_of_an_anyio_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(child, "a")
        await asyncio.sleep(FOR_EVER)


async def anyio_scope() -> None:
    with anyio.move_on_after(FOR_EVER):
        await child("a")


async def asyncio_timeout() -> None:
    async with asyncio.timeout(FOR_EVER):
        await child("a")


async def wait_for() -> None:
    await asyncio.wait_for(child("a"), FOR_EVER)


async def gather() -> None:
    await asyncio.gather(child("a"), child("b"))


@pytest.mark.parametrize(
    ("stands_in", "expected"),
    [
        (children_of_a_task_group, {"a", "b"}),
        (body_of_an_anyio_group, {"a"}),
        (anyio_scope, {"a"}),
        (asyncio_timeout, {"a"}),
        (wait_for, {"a"}),
        (gather, {"a", "b"}),
    ],
)
async def test_it_ends_what_the_coroutine_waits_for(
    stands_in: Callable[[], Awaitable[None]], expected: set[str]
) -> None:

    cancelled.clear()
    others = asyncio.all_tasks()
    with pytest.raises(SoftTimeLimitExceeded):
        await limited(stands_in(), 0.01)
    assert set(cancelled) == expected
    assert asyncio.all_tasks() == others
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_body_of_a_task_group_wraps_it() -> None:
    async def body() -> None:
        async with asyncio.TaskGroup():
            await asyncio.sleep(FOR_EVER)

    with pytest.raises((SoftTimeLimitExceeded, ExceptionGroup)) as caught:
        await limited(body(), 0.01)
    assert caught.errisinstance(SoftTimeLimitExceeded) or caught.group_contains(SoftTimeLimitExceeded)


async def test_it_is_raised_once_and_leaves_time_to_clean_up() -> None:
    async def cleans_up() -> str:
        try:
            await asyncio.sleep(FOR_EVER)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.05)
        return "clean"

    assert await limited(cleans_up(), 0.01) == "clean"


async def test_any_other_cancellation_passes_as_it_is() -> None:
    seen: list[type[BaseException]] = []

    async def notes() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        except BaseException as exc:
            seen.append(type(exc))
            raise

    task = asyncio.create_task(limited(notes(), FOR_EVER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [asyncio.CancelledError]


async def test_values_and_errors_pass() -> None:
    async def returns() -> int:
        await asyncio.sleep(0)
        return 7

    async def raises() -> None:
        await asyncio.sleep(0)
        raise LookupError

    assert await limited(returns(), 1) == 7
    with pytest.raises(LookupError):
        await limited(raises(), 1)


def test_a_thread_that_has_not_begun_says_so() -> None:
    call = InterruptibleCall(lambda: 1)
    assert not call.interrupt()
    assert call() == 1  # and it is not told later of what was meant for nobody
    assert call.interrupt()


def test_a_thread_that_has_gone_on_is_left_alone() -> None:
    call = InterruptibleCall(lambda: 1)
    assert call() == 1
    call.interrupt()
    for _ in range(1000):
        pass  # bytecodes at which it would arrive


@pytest.mark.parametrize(
    ("own", "senders", "expected"),
    [(None, None, None), (5, None, 5), (None, 3, 3), (5, 3, 3), (5, 60, 5), (0, 0, None), (5, 0, 5), (0, 3, 3)],
)
def test_a_sender_can_only_lower_a_limit(own: float | None, senders: float | None, expected: float | None) -> None:
    assert lower(own, senders) == expected


# -- in a worker -----------------------------------------------------------------------------------------------


async def sleeps() -> None:
    await asyncio.sleep(FOR_EVER)


async def test_a_soft_limit_that_nobody_catches_is_a_failure(bench: Bench) -> None:
    bench.task(sleeps, soft_time_limit=0.01)
    async with bench.worker():
        record = await bench.final(await bench.send("sleeps"))
    assert record.status == "FAILURE"
    assert (record.result["exc_module"], record.result["exc_type"]) == ("billiard.exceptions", "SoftTimeLimitExceeded")


async def test_a_soft_limit_counts_for_retry_on(bench: Bench) -> None:
    bench.task(sleeps, soft_time_limit=0.01, retry_on=(SoftTimeLimitExceeded,), max_retries=1, retry_backoff=0.001)
    async with bench.worker() as worker:
        assert (await bench.final(await bench.send("sleeps"))).status == "FAILURE"
        assert worker.stats.retried == 1


async def test_a_hard_limit_cancels_and_fails(bench: Bench) -> None:
    cleaned: list[str] = []

    async def overdue() -> str:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            cleaned.append("up")
        return "never"

    bench.task(overdue, time_limit=0.02)
    async with bench.worker():
        record = await bench.final(await bench.send("overdue"))
        await bench.until(lambda depth: depth.in_flight == 0)
    assert cleaned == ["up"]
    assert record.result == {
        "exc_type": "TimeLimitExceeded",
        "exc_message": [0.02],
        "exc_module": "billiard.exceptions",
    }


async def test_a_value_returned_after_the_hard_limit_does_not_count(bench: Bench) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            return "as if nothing had happened"
        return "never"

    bench.task(stubborn, time_limit=0.02)
    async with bench.worker():
        assert (await bench.final(await bench.send("stubborn"))).status == "FAILURE"


async def test_a_task_that_swallows_its_cancellation_has_failed_all_the_same(bench: Bench) -> None:
    times = 0
    release = asyncio.Event()

    async def swallows() -> None:
        nonlocal times
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                times += 1

    bench.task(swallows, time_limit=0.01)
    async with bench.worker(kill_grace=0.05, concurrency=1) as worker:
        record = await bench.final(await bench.send("swallows"))
        assert record.result["exc_type"] == "TimeLimitExceeded"
        assert times == 3
        release.set()
        await reaches(lambda: worker.stats.failed == 1)


async def test_a_task_without_a_limit_beside_them_is_left_alone(bench: Bench) -> None:
    async def short() -> int:
        await asyncio.sleep(0.05)
        return 1

    bench.task(sleeps, time_limit=0.01)
    bench.task(short)
    async with bench.worker():
        await bench.send("sleeps")
        assert (await bench.final(await bench.send("short"))).result == 1


async def test_the_senders_limit_lowers_the_tasks(bench: Bench) -> None:
    bench.task(sleeps, time_limit=FOR_EVER)
    async with bench.worker():
        record = await bench.final(await bench.send("sleeps", time_limit=0.01))
    assert record.result["exc_message"] == [0.01]


@virtual
async def test_a_task_that_swallows_its_cancellations_is_given_up_when_its_grace_is_over() -> None:
    world = World()
    over = asyncio.Event()
    cancelled_at: list[float] = []

    async def swallows() -> None:
        began = world.loop.time()
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                cancelled_at.append(world.loop.time() - began)

    world.task(swallows, time_limit=5.0)
    async with world.worker(kill_grace=2.0) as worker:
        sent = world.loop.time()
        record = await world.final(await world.send("swallows"))
        assert record.result["exc_type"] == "TimeLimitExceeded"
        assert world.loop.time() - sent < 7.1
        await asyncio.sleep(60)
        assert cancelled_at == pytest.approx([5.0, 6.0, 7.0], abs=0.01)
        assert worker.abandoned
        over.set()


async def test_a_soft_limit_is_raised_in_a_thread(bench: Bench) -> None:
    def spins() -> str:
        try:
            while True:
                time.sleep(0.001)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    bench.task(spins, soft_time_limit=0.02)
    async with bench.worker():
        assert (await bench.final(await bench.send("spins"))).result == "cleaned up"


async def test_a_thread_at_its_hard_limit_keeps_its_slot_until_it_ends(bench: Bench) -> None:
    release = threading.Event()

    def blocks() -> None:
        release.wait()

    def quick() -> int:
        return 1

    bench.task(blocks, time_limit=1.0)
    bench.task(quick)
    try:
        async with bench.worker(threads=1):
            record = await bench.final(await bench.send("blocks"))
            assert record.result["exc_type"] == "TimeLimitExceeded"
            waits = await bench.send("quick")
            await asyncio.sleep(0.05)
            assert await bench.record(waits) is None
            release.set()
            assert (await bench.final(waits)).result == 1
    finally:
        release.set()


async def test_a_process_task_runs_elsewhere_and_its_errors_come_back(bench: Bench) -> None:
    bench.task(process_tasks.whose, executor="process")
    bench.task(process_tasks.breaks, executor="process")
    async with bench.worker():
        where = await bench.final(await bench.send("whose"))
        broken = await bench.final(await bench.send("breaks"))
    assert where.result != os.getpid()
    assert broken.result["exc_type"] == "ValueError"
    assert broken.traceback is not None
    assert "process_tasks.py" in broken.traceback


async def test_a_process_task_is_killed_at_its_hard_limit(bench: Bench) -> None:
    bench.task(process_tasks.sleeps_for_ever, executor="process", time_limit=0.5)
    async with bench.worker():
        record = await bench.final(await bench.send("sleeps_for_ever"))
    assert record.result["exc_type"] == "TimeLimitExceeded"


async def test_a_process_task_gets_its_soft_limit(bench: Bench) -> None:
    bench.task(process_tasks.cleans_up, executor="process", soft_time_limit=0.2)
    async with bench.worker():
        assert (await bench.final(await bench.send("cleans_up"))).result == "cleaned up"


@pytest.mark.parametrize("limit", [True, False])
async def test_a_late_acknowledged_failure_may_be_kept(bench: Bench, limit: bool) -> None:
    async def fails() -> None:
        if limit:
            await asyncio.sleep(FOR_EVER)
        raise ValueError("not this time")

    bench.task(fails, acks_on_failure_or_timeout=False, time_limit=0.02, max_retries=0)
    async with bench.worker() as worker:
        await bench.send("fails")
        if limit:  # back to its queue, and again
            await reaches(lambda: worker.stats.failed >= 2)
        else:
            await bench.until(lambda depth: depth.dead == 1)
