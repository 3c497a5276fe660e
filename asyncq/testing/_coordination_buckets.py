"""Token buckets: each caller gets a time of its own, exactly as an ideal bucket would give it.

A test can't know when the server looked at its clock: only that it was between the call and its answer. So each answer
is held against two ideal buckets, one that is asked as early and one that is asked as late as may be: what a real one
says lies between them, however slow the machine.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from asyncq.driver import Coordination
from asyncq.testing._coordination_kit import CoordinationFixtures
from asyncq.testing._kit import wall, within

#: Seconds that clocks may differ within a test.
TOLERANCE = 0.005

#: Tokens a second: so few that no test is slow enough to see a second one come.
SLOW = 0.01


class Taken(NamedTuple):
    before: float
    after: float
    wait: float


async def take(coordination: Coordination, bucket: str, *, rate: float, capacity: float = 1.0) -> Taken:
    before = wall()
    wait = await within(coordination.take(bucket, rate=rate, capacity=capacity))
    return Taken(before, wall(), wait)


class _IdealBucket:
    def __init__(self, rate: float, capacity: float) -> None:
        self._interval = 1 / rate
        self._capacity = capacity
        self._full_at = -math.inf

    def take(self, now: float) -> float:
        """The time at which the token is there."""
        self._full_at = max(self._full_at, now) + self._interval
        return max(now, self._full_at - self._capacity * self._interval)


def assert_ideal(taken: Sequence[Taken], *, rate: float, capacity: float = 1.0) -> None:
    """What was taken, one after the other, is what an ideal bucket gives."""
    early, late = _IdealBucket(rate, capacity), _IdealBucket(rate, capacity)
    for number, (before, after, wait) in enumerate(taken):
        earliest, latest = early.take(before), late.take(after)
        assert after + wait >= earliest - TOLERANCE, f"token {number} of {taken} came too early"
        assert before + wait <= latest + TOLERANCE, f"token {number} of {taken} came too late"


class Buckets(CoordinationFixtures):
    @pytest.mark.parametrize("rate", [SLOW, 0.03, 7.0, 1000.0])
    async def test_callers_line_up(self, coordination: Coordination, key: str, rate: float) -> None:
        """0, 1/rate, 2/rate, …: less the time that has passed since the first."""
        taken = [await take(coordination, key, rate=rate) for _ in range(10)]

        assert taken[0].wait == 0.0
        assert_ideal(taken, rate=rate)

    @pytest.mark.parametrize("capacity", [1, 3, 100])
    async def test_a_full_bucket_gives_what_it_holds_at_once(
        self, coordination: Coordination, key: str, capacity: int
    ) -> None:
        taken = [await take(coordination, key, rate=SLOW, capacity=capacity) for _ in range(capacity + 2)]

        assert [token.wait for token in taken[:capacity]] == [0.0] * capacity
        assert all(token.wait > 0.0 for token in taken[capacity:])
        assert_ideal(taken, rate=SLOW, capacity=capacity)

    async def test_it_may_hold_a_part_of_a_token(self, coordination: Coordination, key: str) -> None:
        taken = [await take(coordination, key, rate=SLOW, capacity=2.5) for _ in range(4)]

        assert [token.wait for token in taken[:2]] == [0.0, 0.0]
        assert_ideal(taken, rate=SLOW, capacity=2.5)

    @pytest.mark.parametrize("capacity", [1.0, 3.0])
    async def test_it_fills_again(self, coordination: Coordination, key: str, capacity: float) -> None:
        """At its rate, and no further than its capacity."""
        rate = 50.0
        taken: list[Taken] = []
        for tokens in (0.0, 1.0, 2.5, 10.0):  # that come in between; more are right too
            if taken:
                await asyncio.sleep(taken[-1].wait + tokens / rate)
            taken += [await take(coordination, key, rate=rate, capacity=capacity) for _ in range(5)]

        assert_ideal(taken, rate=rate, capacity=capacity)

    async def test_who_waits_as_told_keeps_the_rate(self, crowd: list[Coordination], key: str) -> None:
        rate, ready = 100.0, list[float]()

        async def work(coordination: Coordination) -> None:
            for _ in range(4):
                await asyncio.sleep(await coordination.take(key, rate=rate))
                ready.append(wall())

        began = wall()
        await asyncio.gather(*map(work, crowd))

        assert all(when - began >= number / rate - TOLERANCE for number, when in enumerate(sorted(ready)))

    async def test_everybody_gets_a_time_of_their_own(self, crowd: list[Coordination], key: str) -> None:
        """However many ask at once: none twice, none left out."""
        began = wall()
        waits = await asyncio.gather(*(crowd[number % len(crowd)].take(key, rate=SLOW) for number in range(50)))
        took = wall() - began

        for number, wait in enumerate(sorted(waits)):
            assert abs(wait - number / SLOW) <= took + TOLERANCE

    async def test_buckets_are_apart(self, coordination: Coordination, key: str) -> None:
        for bucket in (key, f"{key}.a", f"{key}.b"):
            assert (await take(coordination, bucket, rate=SLOW)).wait == 0.0
            assert (await take(coordination, bucket, rate=SLOW)).wait > 0.0

    async def test_a_new_rate_holds_for_the_tokens_to_come(self, coordination: Coordination, key: str) -> None:
        """What is reserved stays reserved."""
        slow = [await take(coordination, key, rate=SLOW) for _ in range(2)]
        quick = [await take(coordination, key, rate=10 * SLOW) for _ in range(2)]

        times = [token.before + token.wait for token in slow + quick]
        took = quick[-1].after - slow[0].before
        assert times == pytest.approx([times[0] + gap / SLOW for gap in (0, 1, 2, 2.1)], abs=took + TOLERANCE)

    @pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
    async def test_odd_rates_are_refused(self, coordination: Coordination, key: str, rate: float) -> None:
        with pytest.raises(ValueError, match="rate"):
            await within(coordination.take(key, rate=rate))

    @pytest.mark.parametrize("capacity", [0.0, 0.9, -1.0, float("nan"), float("inf")])
    async def test_odd_capacities_are_refused(self, coordination: Coordination, key: str, capacity: float) -> None:
        with pytest.raises(ValueError, match="capacity"):
            await within(coordination.take(key, rate=1.0, capacity=capacity))
