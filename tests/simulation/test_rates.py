"""Rate limits and bounds over hours: a thousand calls, each at its turn, by one worker or by a fleet."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from asyncq._context import Context
from simulation.world import HOUR, LATE, World
from virtual import virtual

pytestmark = pytest.mark.usefixtures("seldom")


def limited(world: World, **options: object) -> None:
    async def task(name: str = "") -> None:
        world.note(name)

    world.task(task, **options)


def assert_on_time(starts: list[float], *, every: float) -> None:
    """The n-th start comes at its turn: not before, and late by no more than housekeeping may be."""
    for number, at in enumerate(starts):
        assert 0 <= at - starts[0] - number * every <= LATE, f"start {number}"


@virtual
async def test_a_thousand_calls_each_start_at_their_turn() -> None:
    world = World()
    limited(world, rate_limit="10/m")
    async with world.worker() as worker:
        for number in range(1000):
            await world.send("task", str(number))
        await world.reaches(lambda: len(world.starts) == 1000, within=2 * HOUR, every=60)
        assert worker.stats.received < 2050  # once to be told its turn, once for it
    assert_on_time([start.at for start in world.starts], every=6)
    assert [start.name for start in world.starts] == [str(number) for number in range(1000)]


@virtual
async def test_a_fleet_of_three_starts_as_many_as_one() -> None:
    world = World()
    limited(world, rate_limit="10/m", limit_scope="fleet")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(world.worker(concurrency=10)) for _ in range(3)]
        for number in range(300):
            await world.send("task", str(number))
        await world.reaches(lambda: len(world.starts) == 300, within=HOUR, every=60)
        assert sum(worker.stats.succeeded for worker in workers) == 300
    assert_on_time([start.at for start in world.starts], every=6)
    assert max(Counter(start.name for start in world.starts).values()) == 1


@virtual
async def test_no_worker_of_three_exceeds_a_limit_of_its_own() -> None:
    world = World()

    async def task(ctx: Context) -> None:
        world.note(ctx.node)

    world.task(task, rate_limit="10/m")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(world.worker(concurrency=10))
        for _ in range(300):
            await world.send("task")
        await world.reaches(lambda: len(world.starts) == 300, within=HOUR, every=60)
    for node in {start.name for start in world.starts}:
        starts = [start.at for start in world.noted(node)]
        assert all(later - earlier >= 6 - LATE for earlier, later in itertools.pairwise(starts))
    assert world.starts[-1].at <= 300 * 6


@virtual
async def test_each_key_has_turns_of_its_own() -> None:
    world = World()
    limited(world, rate_limit="1/m", limit_key="name")
    async with world.worker():
        for _, name in itertools.product(range(20), "abc"):
            await world.send("task", name)
        await world.reaches(lambda: len(world.starts) == 60, within=HOUR, every=60)
    for name in "abc":
        assert_on_time([start.at for start in world.noted(name)], every=60)


@virtual
async def test_calls_that_come_slower_than_the_rate_are_not_delayed() -> None:
    world = World()
    limited(world, rate_limit="10/m")
    async with world.worker():
        for _ in range(20):
            sent = world.clock.monotonic()
            await world.send("task")
            await asyncio.sleep(6.5)
            assert world.starts[-1].at == sent


@pytest.mark.parametrize("runtime", [1.0, 10.0])
@virtual
async def test_no_more_of_a_task_run_than_may_and_no_slot_stays_empty(runtime: float) -> None:
    world = World()
    running, most = 0, 0

    async def bounded() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        world.note()
        await asyncio.sleep(runtime)
        running -= 1

    world.task(bounded, max_running=2)
    async with world.worker(concurrency=20) as worker:
        for _ in range(60):
            await world.send("bounded")
        await world.reaches(lambda: worker.stats.succeeded == 60, within=HOUR, every=1)
        took = world.clock.monotonic()
    assert most == 2
    assert took <= 1.1 * 60 / 2 * runtime
