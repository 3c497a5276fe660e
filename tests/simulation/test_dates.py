"""ETA and expires, over days and across jumps of the wall clock.

Dates are the wall clock's: a task is due when that clock says so, however it got there. So after a jump forward it
comes sooner, after a jump back later; it is never run while the clock shows an earlier time, and never twice.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from simulation.world import DAY, HOUR, LATE, World
from virtual import virtual


def noting(world: World) -> None:
    async def task() -> None:
        world.note()

    world.task(task)


@pytest.mark.usefixtures("seldom")
@virtual
async def test_a_task_days_away_runs_once_at_its_time() -> None:
    world = World()
    noting(world)
    async with world.worker() as worker:
        eta = world.date(3 * DAY)
        task_id = await world.send("task", eta=eta)
        await world.until(lambda depth: depth.parked == 1 and depth.in_flight == 0)
        await world.final(task_id)
        assert 0 <= world.starts[0].wall - eta.timestamp() <= LATE
        assert (worker.stats.received, worker.stats.parked) == (2, 1)  # nobody held it meanwhile
        await world.reaches(lambda: world.clock.monotonic() > 4 * DAY, within=5 * DAY, every=HOUR)
    assert len(world.starts) == 1


@virtual
async def test_days_without_a_worker_change_nothing() -> None:
    world = World()
    noting(world)
    eta = world.date(3 * DAY)
    async with world.worker():
        await world.send("task", eta=eta)
        await world.until(lambda depth: depth.parked == 1)
    world.clock.jump(3 * DAY - 30)
    async with world.worker(), world.worker():
        await world.reaches(lambda: bool(world.starts), within=31)
        await world.reaches(lambda: world.clock.monotonic() > 60, within=60)
    assert [0 <= start.wall - eta.timestamp() <= LATE for start in world.starts] == [True]


@virtual
async def test_a_clock_set_forward_brings_what_it_makes_due() -> None:
    world = World()
    noting(world)
    async with world.worker(), world.worker():
        eta = world.date(HOUR + 30)
        await world.send("task", eta=eta)
        await world.until(lambda depth: depth.parked == 1)
        world.clock.jump(HOUR)
        await world.reaches(lambda: bool(world.starts), within=31)
        world.clock.jump(-HOUR)  # set right again: it has run
        await asyncio.sleep(60)
    assert [start.at for start in world.starts] == pytest.approx([30], abs=LATE)


@pytest.mark.usefixtures("seldom")
@virtual
async def test_a_clock_set_back_keeps_what_is_not_due_any_more() -> None:
    world = World()
    noting(world)
    async with world.worker(), world.worker():
        eta = world.date(30)
        await world.send("task", eta=eta)
        await world.until(lambda depth: depth.parked == 1)
        world.clock.jump(-HOUR)
        await asyncio.sleep(2 * HOUR)
    assert [0 <= start.wall - eta.timestamp() <= LATE for start in world.starts] == [True]


@pytest.mark.usefixtures("seldom")
@virtual
async def test_a_clock_set_back_as_a_task_falls_due_postpones_it_or_comes_too_late() -> None:
    """At whatever step between its return to the queue and its start."""
    world = World()
    noting(world)
    delays: list[float] = []
    async with world.worker():
        for step in range(40):
            sent = world.clock.monotonic()
            await world.send("task", eta=world.date(5))
            await asyncio.sleep(4.9)
            world.loop.after_steps(step, lambda: world.clock.jump(-60))
            await asyncio.sleep(70)
            assert len(world.starts) == step + 1
            delays.append(world.starts[-1].at - sent)
    postponed = [delay for delay in delays if delay > 6]
    assert min(delays) >= 5
    assert postponed == pytest.approx([65] * len(postponed), abs=LATE)
    assert 5 < len(postponed) < 35


@virtual
async def test_what_comes_after_it_expires_is_not_run() -> None:
    world = World()
    noting(world)
    task_id = await world.send("task", expires=world.date(60))
    world.clock.jump(61)
    async with world.worker():
        record = await world.final(task_id)
    assert (record.status, world.starts) == ("REVOKED", [])


@virtual
async def test_what_expires_while_it_waits_for_a_slot_is_not_run() -> None:
    world = World()
    noting(world)

    async def long() -> None:
        await asyncio.sleep(100)

    world.task(long)
    async with world.worker(concurrency=1, shutdown_timeout=200):
        await world.send("long")
        in_time = await world.send("task", expires=world.date(101))
        too_late = await world.send("task", expires=world.date(99))
        assert (await world.final(too_late)).status == "REVOKED"
        assert (await world.final(in_time)).status == "SUCCESS"
    assert len(world.starts) == 1


@pytest.mark.usefixtures("seldom")
@virtual
async def test_an_eta_beyond_the_expiry_ends_as_revoked_and_does_not_run() -> None:
    world = World()
    noting(world)
    async with world.worker():
        record = await world.final(await world.send("task", eta=world.date(2 * HOUR), expires=world.date(HOUR)))
    assert (record.status, world.starts) == ("REVOKED", [])


@pytest.mark.usefixtures("seldom")
@virtual
async def test_for_four_hundred_days_each_days_task_runs_on_its_day() -> None:
    """One worker after the other, fifty days each; each day the clock goes wrong by an hour, and is set right again."""
    world = World()

    async def daily(number: int) -> None:
        world.note(str(number))

    world.task(daily)
    etas = [world.date((number + 0.5) * DAY).timestamp() for number in range(400)]
    for number, eta in enumerate(etas):
        await world.send("daily", number, eta=datetime.fromtimestamp(eta, UTC))
    for day in range(0, 400, 50):
        async with world.worker():
            await asyncio.sleep(1)
            for _ in range(50):
                world.clock.jump(DAY - HOUR)
                await asyncio.sleep(HOUR / 2)
                world.clock.jump(-HOUR if day % 100 else HOUR)
                await asyncio.sleep(HOUR / 2)
                world.clock.jump(HOUR if day % 100 else -HOUR)
    assert [int(start.name) for start in world.starts] == list(range(400))
    assert all(start.wall >= eta for start, eta in zip(world.starts, etas, strict=True))
