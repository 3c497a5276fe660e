"""P9: whatever fails, a delivery is settled once, and only after its record and what follows from it are safe."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncq._context import Context
from simulation.drivers import drivers
from simulation.history import Effect, History
from simulation.network import FAULTS, Fault, Planned
from simulation.world import DAY, HOUR, World, tag_of
from virtual import run

pytestmark = pytest.mark.usefixtures("seldom", "quiet")


async def play(plan: list[Fault], kinds: list[str]) -> tuple[History, dict[str, str]]:
    """Run tasks of these kinds through the faults; return what took effect, and the kinds by id."""
    world = World()
    history = History(world.clock)
    world.patience = 2 * DAY

    async def task(ctx: Context, kind: str) -> str:
        history.start("worker", ctx.task_id, tag_of(ctx), ctx.retries)
        await asyncio.sleep(0.01)
        if kind == "fails":
            raise ValueError
        if kind == "retries" and ctx.retries == 0:
            raise ctx.retry(countdown=1)
        return "done"

    async def early(ctx: Context, kind: str) -> str:
        return await task(ctx, kind)

    world.task(task, throws=(ValueError,))
    world.task(early, acks_late=False)
    ids = {await world.send("early" if kind == "early" else "task", kind): kind for kind in kinds}
    history.early.update(task_id for task_id, kind in ids.items() if kind == "early")
    # Long leases: what is lost here was lost by a fault of the plan alone.
    weather = drivers(world.config, Planned(plan), history, "worker")
    async with world.worker(concurrency=3, lease=10 * HOUR, start_timeout=HOUR, **weather):
        for task_id in ids:
            await world.final(task_id)
        while (depth := await world.depth()).ready or depth.in_flight or depth.parked:
            await asyncio.sleep(60)
    return history, ids


def assert_ordered(effects: list[Effect], kinds: dict[str, str]) -> None:
    """Late: start, store, what follows, ack. Early: ack, start, store."""
    for position, start in enumerate(effects):
        if start.what != "start":
            continue
        [settle] = [i for i, each in enumerate(effects) if each.what == "settle" and each.tag == start.tag]
        if kinds[start.key] == "early":
            assert settle < position
            continue
        assert position < settle
        between = [each for each in effects[position:settle] if each.key == start.key and each.what != "start"]
        stored = [each.detail for each in between if each.what == "store"]
        # Another copy of the task, published by a call whose reply was lost, may run beside it.
        following = str(int(start.detail) + 1)
        published = [i for i, each in enumerate(between) if (each.what, each.detail) == ("publish", following)]
        assert stored or _has_success_before(effects, start.key, settle)
        if published:
            assert "RETRY" in [each.detail for each in between[: published[0]] if each.what == "store"]
        elif stored:
            assert stored[-1] in {"SUCCESS", "FAILURE"}


def _has_success_before(effects: list[Effect], task_id: str, position: int) -> bool:
    """A repeat of what has succeeded stores nothing any more."""
    return any((each.what, each.key, each.detail) == ("store", task_id, "SUCCESS") for each in effects[:position])


# The reply to an early acknowledgement was lost; told "no longer yours", the worker dropped the task.
@example(
    plan=["reply lost", "slow", "request lost", "slow", "reply lost", "full", "reply lost", "slow"],
    kinds=["succeeds", "succeeds", "early", "succeeds", "succeeds", "early"],
)
@settings(max_examples=100, deadline=None)
@given(
    plan=st.lists(st.sampled_from(FAULTS), max_size=60),
    kinds=st.lists(st.sampled_from(["succeeds", "fails", "retries", "early"]), min_size=1, max_size=6),
)
def test_settled_once_and_in_order_under_any_failures(plan: list[Fault], kinds: list[str]) -> None:
    history, ids = run(play(plan, kinds))
    assert not history.violations
    assert_ordered(history.effects, ids)
