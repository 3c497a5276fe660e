"""What waits for days: revocations that find it, and tasks that nobody knows yet."""

from __future__ import annotations

import asyncio

import pytest

from asyncq._coordination import coordination_of
from asyncq._revoking import Revocation, keep_revocation
from asyncq.worker import Worker
from simulation.world import DAY, HOUR, LATE, World
from virtual import virtual

pytestmark = pytest.mark.usefixtures("seldom")


async def revoke(world: World, task_id: str, *, terminate: bool = False) -> None:
    coordination = coordination_of(world.backend, world.broker)
    assert coordination is not None
    await keep_revocation(coordination, Revocation(task_id, terminate=terminate), new_id=world.environment.new_id)


def noting(world: World) -> None:
    async def task(name: str) -> None:
        world.note(name)

    world.task(task)


@pytest.mark.parametrize("somebody_works", [True, False])
@virtual
async def test_what_is_revoked_while_it_is_parked_for_days_does_not_run(somebody_works: bool) -> None:
    world = World()
    noting(world)
    async with world.worker() as worker:
        revoked = await world.send("task", "revoked", eta=world.date(2 * DAY))
        kept = await world.send("task", "kept", eta=world.date(2 * DAY))
        await world.until(lambda depth: depth.parked == 2 and depth.in_flight == 0)
        if not somebody_works:
            worker.stop()
            await worker.wait()
        await asyncio.sleep(HOUR)
        await revoke(world, revoked)
    world.clock.jump(2 * DAY - 2 * HOUR)
    async with world.worker() as worker:
        assert (await world.final(revoked)).status == "REVOKED"
        assert (await world.final(kept)).status == "SUCCESS"
        assert (worker.stats.revoked, worker.stats.succeeded) == (1, 1)
    assert [start.name for start in world.starts] == ["kept"]


@virtual
async def test_what_runs_for_hours_is_ended_by_a_revocation() -> None:
    world = World()

    async def long() -> None:
        world.note()
        await asyncio.sleep(DAY)

    world.task(long)
    async with world.worker():
        task_id = await world.send("long")
        await asyncio.sleep(HOUR)
        await revoke(world, task_id, terminate=True)
        assert (await world.final(task_id)).status == "REVOKED"
        assert world.clock.monotonic() <= HOUR + 61


async def looks(world: World, worker: Worker, *, within: float) -> list[float]:
    """When the worker was given the one message that there is, until it is gone."""
    seen: list[float] = []
    async with asyncio.timeout(within):
        while (depth := await world.depth()).ready or depth.parked or depth.in_flight:
            if worker.stats.received > len(seen):
                seen.append(world.clock.monotonic())
            await asyncio.sleep(0.1)
    return [*seen, world.clock.monotonic()]


@virtual
async def test_an_unknown_task_is_looked_at_for_an_hour_and_then_lies_with_the_dead() -> None:
    world = World()
    task_id = await world.send("stranger", "its argument")
    async with world.worker() as worker:
        times = await looks(world, worker, within=2 * HOUR)
        record = await world.final(task_id)
    assert times == pytest.approx([0, 1, 6, 36, 96, 396, 996, 1596, 2196, 2796, 3396, 3600], abs=LATE)
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "NotRegistered")
    [letter] = await world.dead()
    assert (letter.headers["task"], letter.headers["id"]) == ("stranger", task_id)


@virtual
async def test_a_worker_that_knows_it_runs_it_at_its_next_look() -> None:
    world = World()
    task_id = await world.send("task", "from the next release")
    async with world.worker():
        await asyncio.sleep(10 * 60)
        assert (await world.depth()).parked == 1
    noting(world)
    async with world.worker():
        assert (await world.final(task_id)).status == "SUCCESS"
    [start] = world.starts
    assert start.at <= 1000  # 1 + 5 + 30 + 60 + 300 + 600 seconds are 996
