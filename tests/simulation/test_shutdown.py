"""A worker that is stopped at each of its first steps: nothing is lost, nothing is stuck, nothing runs for nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from asyncq._context import Context
from asyncq.errors import Snooze
from asyncq.protocol import READY_STATES
from simulation.world import World
from virtual import run, virtual, virtual_loop
from worker.bench import _message

pytestmark = pytest.mark.usefixtures("seldom", "quiet")

#: The load lasts for longer.
STEPS, STEPS_AT_ONCE = 1000, 250

#: Parts of the range, so that processes can share it.
PARTS = 20


class Load:
    """A few tasks of every kind, sent before the worker starts."""

    def __init__(self) -> None:
        self.world = world = World()
        #: How often each task began, and how often it ended by itself, by id.
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        #: By id.
        self.names: dict[str, str] = {}

        async def body(ctx: Context, seconds: float) -> str:
            self.begun[ctx.task_id] += 1
            await asyncio.sleep(seconds)
            self.ended[ctx.task_id] += 1
            return "done"

        async def quick(ctx: Context) -> str:
            return await body(ctx, 0)

        async def long(ctx: Context) -> str:
            return await body(ctx, 3)

        async def early(ctx: Context) -> str:
            return await body(ctx, 3)

        async def flaky(ctx: Context) -> str:
            await body(ctx, 0)
            if ctx.retries == 0:
                raise OSError("away")
            return "done"

        async def snoozing(ctx: Context) -> str:
            await body(ctx, 0)
            if self.ended[ctx.task_id] == 1:
                raise Snooze(1)
            return "done"

        async def limited(ctx: Context) -> str:
            return await body(ctx, 0)

        async def bounded(ctx: Context) -> str:
            return await body(ctx, 0.5)

        world.task(quick)
        world.task(long)
        world.task(early, acks_late=False)
        world.task(flaky, retry_on=(OSError,), retry_jitter=False)
        world.task(snoozing)
        world.task(limited, rate_limit="1/s")
        world.task(bounded, max_running=1)

    async def send(self) -> None:
        names = ["quick", "long", "early", "flaky", "snoozing", "limited", "bounded"]
        for name in [*names, "early", "limited", "bounded", "quick"]:
            self.names[await self.world.send(name)] = name
        self.names[await self.world.send("quick", eta=self.world.date(2))] = "quick"

    async def send_later(self) -> None:
        """Some more, one by one, while the worker is at it."""
        for name in 15 * ["quick", "bounded", "flaky"]:
            await asyncio.sleep(0.05)
            self.names[await self.world.send(name)] = name

    async def waiting(self) -> Counter[str]:
        """How often each task stands in the queue."""
        ready = await self.world.broker.peek("celery", "ready")
        parked = await self.world.broker.peek("celery", "parked")
        return Counter(str(_message(stored).headers["id"]) for stored in [*ready, *parked])

    async def is_final(self, task_id: str) -> bool:
        record = await self.world.record(task_id)
        return record is not None and record.status in READY_STATES


async def stopped_at(step: int, *, now: bool) -> bool:
    """Return False when the load had come to its end before."""
    load = Load()
    world = load.world
    await load.send()
    worker = world.worker(concurrency=3, shutdown_timeout=1.0)
    virtual_loop().after_steps(step, lambda: worker.stop(now=now))
    producer = asyncio.create_task(load.send_later())
    async with asyncio.timeout(100):
        await worker.run()
    await producer

    assert (await world.depth()).in_flight == 0
    waiting = await load.waiting()
    for task_id, name in load.names.items():
        assert waiting[task_id] == (not await load.is_final(task_id)), f"{name} {task_id} is lost, or there twice"
    interrupted = load.begun - load.ended
    assert set(interrupted.values()) <= {1}
    is_under_way = not all([await load.is_final(task_id) for task_id in load.names])

    async with world.worker(), asyncio.timeout(100):
        for task_id, name in load.names.items():
            record = await world.final(task_id)
            if record.status != "SUCCESS":
                assert (name, record.result["exc_type"]) == ("early", "WorkerLostError")
                assert not load.ended[task_id]
    for task_id, name in load.names.items():
        attempts = 1 + (name in {"flaky", "snoozing"}) + interrupted[task_id]
        assert load.begun[task_id] == attempts if name != "early" else load.begun[task_id] <= 1, name
    assert (await load.waiting()) == Counter()
    return is_under_way


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("part", range(PARTS))
def test_it_may_be_stopped_at_any_step(part: int, now: bool) -> None:
    steps = STEPS_AT_ONCE if now else STEPS
    under_way = [run(stopped_at(step, now=now)) for step in range(part, steps, PARTS)]
    assert all(under_way), "the load is too small for so many steps"


@virtual
async def test_an_early_acknowledged_task_that_swallows_its_cancellation_is_told_as_lost() -> None:
    world = World()
    released = asyncio.Event()

    async def swallows() -> None:
        world.note()
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    world.task(swallows, acks_late=False)
    task_id = await world.send("swallows")
    async with world.worker(shutdown_timeout=1):
        await world.reaches(lambda: bool(world.starts), within=1)
    record = await world.record(task_id)
    released.set()
    await asyncio.sleep(1)
    assert record is not None
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "WorkerLostError")
    assert await world.record(task_id) == record
