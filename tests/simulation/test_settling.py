"""P9: whatever fails, a delivery is settled once, and only after its record and what follows from it are safe."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncq._context import Context
from asyncq.worker._attempt import Attempt
from simulation.faults import FAULTS, Effect, Fault, Faults, drivers
from simulation.world import DAY, HOUR, World
from virtual import run

pytestmark = pytest.mark.usefixtures("seldom", "quiet")


async def play(plan: list[Fault], kinds: list[str]) -> tuple[Faults, dict[str, str]]:
    """Run tasks of these kinds through the faults; return what took effect, and the kinds by id."""
    world, faults = World(), Faults(plan)
    world.patience = 2 * DAY

    async def task(ctx: Context, kind: str) -> str:
        # Private, and just what this is about: which delivery is it?
        tag = cast("Attempt", ctx._attempt).delivery.tag
        faults.note("start", ctx.task_id, f"{tag} {ctx.retries}")
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
    # Long leases: what is lost here was lost by a fault of the plan alone.
    async with world.worker(concurrency=3, lease=10 * HOUR, start_timeout=HOUR, **drivers(world.config, faults)):
        for task_id in ids:
            await world.final(task_id)
        while (depth := await world.depth()).ready or depth.in_flight or depth.parked:
            await asyncio.sleep(60)
    return faults, ids


def assert_settled_once(faults: Faults) -> None:
    """No delivery is settled twice, or in two ways, and nobody asks again once there was an answer."""
    settled = Counter(effect.key for effect in faults.effects if effect.what == "settle")
    assert set(settled.values()) <= {1}
    for tag, log in faults.settlements.items():
        assert len({type(settlement) for _, settlement in log}) == 1, tag
        assert "answered" not in [what for what, _ in log[:-1]], tag


def assert_ordered(effects: list[Effect], kinds: dict[str, str]) -> None:
    """Late: start, store, what follows, ack. Early: ack, start, store."""
    for position, effect in enumerate(effects):
        if effect.what != "start":
            continue
        tag, retries = effect.detail.split()
        [settle] = [i for i, each in enumerate(effects) if each.what == "settle" and each.key == tag]
        if kinds[effect.key] == "early":
            assert settle < position
            continue
        assert position < settle
        between = [each for each in effects[position:settle] if each.key == effect.key and each.what != "start"]
        stored = [each.detail for each in between if each.what == "store"]
        # Another copy of the task, published by a call whose reply was lost, may run beside it.
        published = [each for each in between if each.what == "publish" and int(each.detail) == int(retries) + 1]
        assert stored or _has_success_before(effects, effect.key, settle)
        if published:
            assert between.index(Effect("store", effect.key, "RETRY")) < between.index(published[0])
        elif stored:
            assert stored[-1] in {"SUCCESS", "FAILURE"}


def _has_success_before(effects: list[Effect], task_id: str, position: int) -> bool:
    """A repeat of what has succeeded stores nothing any more."""
    return Effect("store", task_id, "SUCCESS") in effects[:position]


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
    faults, ids = run(play(plan, kinds))
    assert_settled_once(faults)
    assert_ordered(faults.effects, ids)
