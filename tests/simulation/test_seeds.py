"""The runtime against whatever may befall it: a seed throws a load, a fleet and faults, and the ledger must be right.

A failure shows its seed and all that happened; `play(seed)` repeats it, step by step.
"""

from __future__ import annotations

import itertools
import os
import time

import pytest

from simulation.history import Violation
from simulation.scenario import play

pytestmark = pytest.mark.usefixtures("brisk", "quiet")

SEEDS = 500

#: Parts of the range, so that processes can share it.
PARTS = 10

#: Seconds of the soak; a seed takes about 30 ms.
SOAK = float(os.environ.get("ASYNCQ_SOAK_SECONDS", "600"))

#: Seeds that failed once, and what they had found.
FOUND = {
    233: "a stranger whose putting off the broker refused for good went to the dead letters without a record",
    288: "a task that was first told as STARTED began when its worker had been stopped meanwhile",
    1897: "a RETRY that had waited for the backend for longer than its lease was stored over the end others had told",
}


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_nothing_is_lost_and_nothing_is_wrong(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        play(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_stays_away(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_a_seed_takes_the_same_course_each_time(seed: int) -> None:
    assert play(seed).trace() == play(seed).trace()


def test_a_failure_shows_its_seed_and_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise Violation("by plan")

    monkeypatch.setattr("simulation.scenario.Scenario._check_call", breaks)
    with pytest.raises(AssertionError, match=r"(?s)^seed 7: Violation\('by plan'\)\n.* worker-1 +take +id-1"):
        play(7)


@pytest.mark.soak
@pytest.mark.timeout(SOAK + 120)
def test_soak() -> None:
    """From a seed that no other run has begun with: by the clock, so that each soak looks at something new."""
    end = time.monotonic() + SOAK
    first = int(time.time()) * 1000
    for played in itertools.count():
        if time.monotonic() > end:
            print(f"{played} seeds from {first} on, {played / SOAK:.1f} a second")
            break
        play(first + played)
