"""Leases over time: kept while a task runs, lost by a worker that stands still, and never missed by the task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from asyncq._context import Context
from asyncq.driver import StoredResult
from asyncq.protocol import ResultRecord
from asyncq_backends.memory import MemoryBackend
from simulation.world import HOUR, World
from virtual import process, run, virtual

pytestmark = pytest.mark.usefixtures("seldom")

LEASE = 60.0


@pytest.mark.parametrize("runtime", [3.2 * LEASE, 10 * HOUR])
@virtual
async def test_a_task_of_many_leases_runs_once(runtime: float) -> None:
    world = World()

    async def long() -> str:
        world.note()
        await asyncio.sleep(runtime)
        return "done"

    world.task(long)
    async with world.worker(lease=LEASE) as worker, world.worker(lease=LEASE) as other:
        record = await world.final(await world.send("long"))
        assert record.result == "done"
        assert len(world.starts) == 1
        assert worker.stats.lost == other.stats.lost == 0


@virtual
async def test_what_waits_for_its_turn_behind_a_long_task_is_kept_too() -> None:
    world = World()

    async def long(number: int) -> int:
        world.note()
        await asyncio.sleep(LEASE)
        return number

    world.task(long)
    ids = [await world.send("long", number) for number in range(6)]
    async with world.worker(lease=LEASE, concurrency=1, shutdown_timeout=HOUR) as worker:
        assert [(await world.final(task_id)).result for task_id in ids] == [0, 1, 2, 3, 4, 5]
        assert (len(world.starts), worker.stats.lost) == (6, 0)


class WatchedBackend(MemoryBackend):
    """Knows whether it has ever been asked to store something."""

    asked = False

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        self.asked = True
        return await super().store(results)


class Standstill:
    """A worker is frozen in the middle of a task, a second one takes the task over, and the first one goes on."""

    def __init__(self, *, seconds: float, after: float, step: int = 0) -> None:
        self._seconds, self._after, self._step = seconds, after, step
        #: The record when the frozen worker goes on, and that at the end.
        self.before: ResultRecord | None = None
        self.after: ResultRecord | None = None
        self.starts: list[str] = []
        #: Nothing is left in the queue at the end.
        self.is_clean = False
        #: The frozen worker had begun to store its outcome: that request cannot be called back.
        self.was_storing = False
        self.lost = 0

    async def play(self) -> None:
        world = World()

        async def task(ctx: Context) -> str:
            world.note(ctx.node.partition("@")[0])
            await asyncio.sleep(10)
            if ctx.redelivered:
                raise ValueError("fails the second time")
            return "the first one's"

        world.task(task, throws=(ValueError,))
        backend = WatchedBackend(world.config)
        frozen = world.worker(lease=LEASE, backend=backend)

        stands_still = asyncio.Event()

        def freeze() -> None:
            self.was_storing = backend.asked
            world.loop.freeze("frozen")
            stands_still.set()

        with process("frozen"):
            await frozen.__aenter__()
        task_id = await world.send("task")
        await asyncio.sleep(self._after)
        world.loop.after_steps(self._step, freeze)
        await stands_still.wait()
        async with world.worker(lease=LEASE):
            await asyncio.sleep(self._seconds)
            self.before = await world.record(task_id)
            world.loop.thaw("frozen")
            await asyncio.sleep(LEASE)
            self.after = await world.record(task_id)
            depth = await world.depth()
        self.is_clean = (depth.ready, depth.in_flight, depth.parked, depth.dead) == (0, 0, 0, 0)
        await frozen.__aexit__(None, None, None)
        self.starts = [start.name for start in world.starts]
        self.lost = frozen.stats.lost


def test_a_worker_that_stood_still_for_less_than_its_lease_keeps_its_task() -> None:
    still = Standstill(seconds=LEASE / 2, after=1)
    run(still.play())
    assert still.after is not None
    assert (still.starts, still.after.result, still.lost) == (["worker-1"], "the first one's", 0)


def test_a_worker_that_stood_still_for_too_long_drops_its_outcome() -> None:
    still = Standstill(seconds=2 * LEASE, after=1)
    run(still.play())
    assert still.after is not None
    assert still.starts == ["worker-1", "worker-2"]
    assert (still.after.status, still.after.result["exc_type"]) == ("FAILURE", "ValueError")
    assert (still.lost, still.is_clean) == (1, True)


@pytest.mark.parametrize("after", [0.0, 9.99])
def test_at_whatever_step_it_stands_still_it_never_stores_over_the_new_owner(after: float) -> None:
    """A task runs at least once, its final record stays. `after`: as the task comes, and as it ends."""
    taken_over = 0
    for step in range(30):
        still = Standstill(seconds=2 * LEASE, after=after, step=step)
        run(still.play())
        assert still.starts, step
        assert still.before is not None, step
        assert still.after is not None, step
        assert still.is_clean, step
        taken_over += len(still.starts) == 2
        if still.before.status == "SUCCESS" or not still.was_storing:
            assert still.after == still.before, step
    assert 5 < taken_over < 30
