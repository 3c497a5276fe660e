"""P6: whatever the tree, the interleaving, the duplicates and the deaths, it comes to what the oracle says: each task's
call, its record, each errback told once of each failure, each body run once, no chord left open.
"""

from __future__ import annotations

import random

import pytest

from simulation.canvas_oracle import Oracle
from simulation.canvas_trees import TOLD_BY_CALL, Act, Chain, Chord, Errback, Group, Grower, Task, Tree, sketch
from simulation.canvas_world import CanvasWorld, Faults
from virtual import run

pytestmark = pytest.mark.usefixtures("quiet")

ACTS: tuple[Act, ...] = ("fail", "fail", "recover", "exhaust", "replace", "grow", "expire")

#: One of each, so that a death anywhere in it says much.
STORY = Chain(
    (
        Task("t1"),
        Group((Task("t2"), Chord((Task("t3", "recover"), Task("t4")), Task("t5")), Task("t6")), "g7"),
        Task("t8", "replace", Group((Task("t9", named=True), Task("t10", named=True)), "g11")),
        Chord((Task("t12", "fail"), Task("t13")), Task("t14", errbacks=(Errback("e15", TOLD_BY_CALL),))),
        Task("t16"),
    )
)


NO_FAULTS = Faults()


@pytest.fixture(autouse=True)
def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that most of these trees are sent as headers of thousands are: partly while they are made."""
    monkeypatch.setattr("asyncq.worker._continuation.MADE_AT_ONCE", 2)


async def play(seed: int, tree: Tree, faults: Faults = NO_FAULTS) -> None:
    world = CanvasWorld(seed, tree, faults)
    ids = await world.play()
    oracle = Oracle(ids)
    oracle.run(tree)
    complaints = "\n".join(oracle.complaints(world.seen, fair=faults == NO_FAULTS))
    assert not complaints, f"seed {seed}: {complaints}\n{sketch(tree)}\n{faults}\n{ids}"


def play_fair(seed: int) -> None:
    dice = random.Random(f"tree {seed}")
    tree = Grower(dice, acts=(*ACTS, "revoke")).tree()
    run(play(seed, tree), dice=dice if seed % 3 == 0 else None)


def play_foul(seed: int) -> None:
    """Nothing is revoked: a worker that can't reach the store would not know."""
    dice = random.Random(f"faults {seed}")
    tree = Grower(dice, acts=ACTS).tree()
    faults = faults_at_random(dice)
    run(play(seed, tree, faults), dice=dice if seed % 3 == 0 else None)


def faults_at_random(dice: random.Random) -> Faults:
    def some(most: int, within: int) -> tuple[int, ...]:
        return tuple(dice.randint(0, within) for _ in range(dice.randint(0, most)))

    return Faults(
        echoes=dice.choice([0.0, 0.1, 0.5]),
        weather=dice.choice([None, None, 0.02, 0.1]),
        kills=some(2, 600),
        deaths=some(2, 150),
        hangs=some(1, 600),
    )


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_any_tree(first: int) -> None:
    for seed in range(first, first + 10):
        play_fair(seed)


@pytest.mark.parametrize("first", range(0, 28, 4))
def test_any_tree_any_faults(first: int) -> None:
    for seed in range(first, first + 4):
        play_foul(seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1000, 5000, 500))
def test_thousands_of_trees(first: int) -> None:
    for seed in range(first, first + 500):
        play_fair(seed)
        play_foul(seed)


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_a_worker_may_die_before_and_after_any_call(first: int) -> None:
    for boundary in range(first, first + 20, 3):  # odd ones come after a call
        run(play(boundary, STORY, Faults(deaths=(boundary,))))


def test_the_errbacks_of_a_body_that_ends_in_a_group_are_told_once() -> None:
    body = Chain((Task("t2"), Group((Task("t3"), Task("t4")), "g5")), errbacks=(Errback("e6", TOLD_BY_CALL),))
    run(play(0, Chord((Task("t1", "fail"),), body)))
