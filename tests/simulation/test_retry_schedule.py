"""P4: retries come within their bounds, further apart each time, and never after the task has expired."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq._definition import TaskOptions
from asyncq.worker._judge import backoff
from simulation.world import LATE, World
from virtual import run

pytestmark = pytest.mark.usefixtures("seldom", "quiet")

bases = st.floats(0.001, 1e6)
caps = st.floats(0.001, 1e6)


class Middle(random.Random):
    """Throws what is to be expected."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@given(base=bases, cap=caps, retries=st.integers(0, 100_000), jitter=st.booleans(), seed=st.integers())
def test_a_wait_is_between_nothing_and_the_cap(base: float, cap: float, retries: int, jitter: bool, seed: int) -> None:
    options = TaskOptions(retry_backoff=base, retry_backoff_max=cap, retry_jitter=jitter)
    wait = backoff(options, retries, random.Random(seed))
    assert 0 <= wait <= min(cap, base * 2.0 ** min(retries, 900))
    if not jitter:
        assert wait == min(cap, base * 2.0 ** min(retries, 64))


@given(base=bases, cap=caps, retries=st.integers(0, 100))
def test_waits_are_expected_to_grow_until_the_cap(base: float, cap: float, retries: int) -> None:
    options = TaskOptions(retry_backoff=base, retry_backoff_max=cap)
    now, then = (backoff(options, number, Middle()) for number in (retries, retries + 1))
    assert now < then or now == then == cap / 2


async def play(*, base: float, cap: float, expires: float, jitter: bool, seed: int) -> tuple[list[float], float]:
    """Fail until the end, whatever it is; return when the attempts began, and when the last record was stored."""
    world = World(seed)

    async def failing() -> None:
        world.note()
        raise OSError

    world.task(
        failing, retry_on=(OSError,), max_retries=20, retry_backoff=base, retry_backoff_max=cap, retry_jitter=jitter
    )
    async with world.worker():
        record = await world.final(await world.send("failing", expires=world.date(expires)))
    assert record.status in {"FAILURE", "REVOKED"}
    return [start.at for start in world.starts], world.clock.monotonic()


@settings(max_examples=40, deadline=None)
@given(
    base=st.floats(0.1, 100),
    cap=st.floats(0.1, 1000),
    expires=st.floats(0.1, 10_000),
    jitter=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_attempt_comes_after_the_task_expires(
    base: float, cap: float, expires: float, jitter: bool, seed: int
) -> None:
    starts, ended = run(play(base=base, cap=cap, expires=expires, jitter=jitter, seed=seed))
    assert 1 <= len(starts) <= 21
    assert starts[-1] <= expires + 1e-6  # dates travel in microseconds
    # It is told as soon as that is known, and not only when it expires.
    assert ended <= min(expires, starts[-1] + cap) + LATE
    for number, (earlier, later) in enumerate(itertools.pairwise(starts)):
        assert later - earlier <= min(cap, base * 2.0**number) + LATE
