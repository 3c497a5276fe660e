"""Retries over hours: when the next attempt comes, and when there is none any more."""

from __future__ import annotations

import itertools

import pytest

from asyncq._context import Context
from asyncq.errors import Snooze
from simulation.world import HOUR, LATE, World
from virtual import virtual

pytestmark = pytest.mark.usefixtures("seldom")


def waits(world: World) -> list[float]:
    """Seconds between one attempt and the next; the attempts themselves take none."""
    return [later.at - earlier.at for earlier, later in itertools.pairwise(world.starts)]


def fails(world: World, **options: object) -> None:
    async def failing() -> None:
        world.note()
        raise OSError("away")

    world.task(failing, retry_on=(OSError,), **options)


@virtual
async def test_attempts_come_at_twice_the_distance_each_time_up_to_the_cap() -> None:
    world = World()
    fails(world, max_retries=14, retry_jitter=False)
    async with world.worker() as worker:
        record = await world.final(await world.send("failing"))
    expected = [*(2.0**n for n in range(10)), 600, 600, 600, 600]
    assert waits(world) == pytest.approx(expected, abs=0.01)
    assert all(wait >= due for wait, due in zip(waits(world), expected, strict=True))
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "OSError")
    assert (worker.stats.retried, worker.stats.failed) == (14, 1)


@virtual
async def test_base_and_cap_are_the_tasks_own() -> None:
    world = World()
    fails(world, max_retries=4, retry_backoff=10.0, retry_backoff_max=30.0, retry_jitter=False)
    async with world.worker():
        await world.final(await world.send("failing"))
    assert waits(world) == pytest.approx([10, 20, 30, 30], abs=0.01)


@virtual
async def test_jitter_spreads_attempts_over_all_of_the_wait() -> None:
    world = World()
    fails(world, max_retries=1, retry_backoff=600.0)
    async with world.worker():
        for _ in range(200):
            await world.send("failing")
        await world.reaches(lambda: len(world.starts) == 400, within=HOUR)
    spread = sorted(start.at for start in world.starts[200:])
    assert 0 <= spread[0] < 60
    assert 540 < spread[-1] <= 600 + LATE
    assert 240 < spread[100] < 360


@virtual
async def test_what_failed_in_the_first_worker_is_tried_again_by_the_next() -> None:
    world = World()
    fails(world, max_retries=1, retry_backoff=HOUR, retry_backoff_max=HOUR, retry_jitter=False)
    async with world.worker():
        task_id = await world.send("failing")
        await world.until(lambda depth: depth.parked == 1 and depth.in_flight == 0)
    assert (await world.depth()).ready == 0
    async with world.worker():
        assert (await world.final(task_id)).status == "FAILURE"
    assert waits(world) == pytest.approx([HOUR], abs=LATE)


@virtual
async def test_no_attempt_is_made_after_the_task_expires() -> None:
    world = World()
    fails(world, max_retries=None, retry_jitter=False)
    async with world.worker():
        record = await world.final(await world.send("failing", expires=world.date(100)))
        ended = world.clock.monotonic()
    assert waits(world) == pytest.approx([1, 2, 4, 8, 16, 32], abs=0.01)
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "OSError")
    assert ended == pytest.approx(63, abs=0.1)  # told at once, and not only when it expires


@virtual
async def test_an_asked_for_countdown_is_kept_to() -> None:
    world = World()

    async def asking(ctx: Context) -> str:
        world.note()
        if ctx.retries < 2:
            raise ctx.retry(countdown=5 * HOUR)
        return "at last"

    world.task(asking)
    async with world.worker():
        record = await world.final(await world.send("asking"))
    assert record.result == "at last"
    assert waits(world) == pytest.approx([5 * HOUR, 5 * HOUR], abs=0.01)


@virtual
async def test_snoozing_uses_no_attempt_however_often() -> None:
    world = World()

    async def snoozing(ctx: Context) -> int:
        world.note()
        if len(world.starts) <= 24:
            raise Snooze(HOUR)
        return ctx.retries

    world.task(snoozing, max_retries=0)
    async with world.worker() as worker:
        record = await world.final(await world.send("snoozing"))
    assert record.result == 0
    assert worker.stats.snoozed == 24
    assert waits(world) == pytest.approx([HOUR] * 24, abs=0.01)
