"""How soon a child is started again, and when no longer."""

from __future__ import annotations

import pytest

from asyncq.supervisor._breaker import CrashLoop, CrashLoopBreaker


def test_the_fifth_fruitless_death_within_a_minute_is_the_last() -> None:
    breaker = CrashLoopBreaker()
    assert [breaker.delay(now, 0) for now in (0.0, 1.0, 2.0, 3.0)] == [0.1, 0.2, 0.4, 0.8]
    with pytest.raises(CrashLoop, match="5 processes were gone within 60 s"):
        breaker.delay(60.0, 0)


def test_deaths_that_are_further_apart_make_it_slower_and_no_crash_loop() -> None:
    breaker = CrashLoopBreaker()
    delays = [breaker.delay(20.0 * number, 0) for number in range(10)]
    assert delays == sorted(delays)
    assert delays[-1] == 5.0


@pytest.mark.parametrize("achieved", [1, 1000])
def test_a_child_that_has_achieved_something_begins_anew(achieved: int) -> None:
    breaker = CrashLoopBreaker()
    for now in (0.0, 1.0, 2.0, 3.0):
        breaker.delay(now, 0)
    assert breaker.delay(4.0, achieved) == 0.1
    assert [breaker.delay(now, 0) for now in (5.0, 6.0)] == [0.1, 0.2]


def test_a_reset_forgets_what_happened() -> None:
    breaker = CrashLoopBreaker()
    for now in (0.0, 1.0, 2.0, 3.0):
        breaker.delay(now, 0)
    breaker.reset()
    assert breaker.delay(4.0, 0) == 0.1
