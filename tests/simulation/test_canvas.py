"""P6: whatever the tree, the interleaving, the duplicates and the deaths: each body once, results in header order."""

from __future__ import annotations

import asyncio
import random

import pytest

from asyncq.canvas import Node
from simulation.canvas import LEASE, CanvasWorld, canvas_at_random, expected
from virtual import run
from worker.canvas_bench import chain, chord, group, sig

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(autouse=True)
def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that most of these trees are sent as headers of thousands are: partly while they are made."""
    monkeypatch.setattr("asyncq.worker._continuation.MADE_AT_ONCE", 2)


async def play(seed: int, node: Node, kills: list[int], *, echoes: float = 0.0, faults: float | None = None) -> None:
    world = CanvasWorld(seed, echoes=echoes, faults=faults)
    for killed_after in kills:
        world.launch(killed_after=killed_after)
    world.launch()
    result = await world.start(node)
    assert await world.value(result) == expected(node)
    # Duplicates come late, what was held by the dead after the lease, and what they had claimed once that has ended.
    await asyncio.sleep(10 * LEASE)
    await world.until(lambda depth: depth.ready == depth.in_flight == 0)
    assert not [each for each in world.dispatched.values() if len(each) != 1], "a body was run for two sendings"
    await world.end()


@pytest.mark.parametrize("seed", range(30))
def test_any_tree_any_interleaving_any_duplicates(seed: int) -> None:
    dice = random.Random(seed)
    node = canvas_at_random(dice)
    kills = [dice.randint(0, 600) for _ in range(dice.randint(0, 3))]
    run(play(seed, node, kills, echoes=dice.choice([0.0, 0.1, 0.5])), dice=dice if seed % 3 == 0 else None)


@pytest.mark.parametrize("seed", range(30))
def test_any_tree_over_a_network_that_loses_what_it_carries(seed: int) -> None:
    dice = random.Random(f"network {seed}")
    node = canvas_at_random(dice)
    kills = [dice.randint(0, 600) for _ in range(dice.randint(0, 2))]
    run(play(seed, node, kills, echoes=dice.choice([0.0, 0.1]), faults=dice.choice([0.02, 0.1])))


STORY = chain(sig("mix", 1), group(sig("mix", 2), chord([sig("mix", 3)], sig("mix", 4))), sig("mix", 5), sig("mix", 6))


@pytest.mark.parametrize("first", range(0, 400, 40))
def test_a_worker_may_die_at_any_step(first: int) -> None:
    for killed_after in range(first, first + 40, 2):
        run(play(killed_after, STORY, [killed_after]))
