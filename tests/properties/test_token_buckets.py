"""P7: token buckets against a bucket that holds tokens, as one would draw it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asyncq._clock import system_environment
from asyncq.driver import Coordination, DriverConfig, Environment
from asyncq.worker._rate_gate import LocalBuckets
from asyncq_brokers._clients.memory import MemoryCoordination
from clocks import SetClock

T = TypeVar("T")

BUCKETS = st.sampled_from("abc")


class DrawnBucket:
    """So many tokens; fewer than none when some are promised."""

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._tokens, self._at = capacity, now

    def look(self, now: float) -> float:
        """The seconds until a token would be there."""
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._tokens) / self._rate)

    def take(self, now: float) -> float:
        wait = self.look(now)
        self._tokens -= 1
        return wait


def outcome(coroutine: Coroutine[Any, Any, T]) -> T:
    """Of a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


async def nothing() -> None: ...


class Buckets(RuleBasedStateMachine):
    """Both kinds of bucket, asked the same."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.local = LocalBuckets(self.clock)
        machine = system_environment()
        environment = Environment(clock=self.clock, random=machine.random, new_id=machine.new_id)
        config = DriverConfig(url="memory://", app="buckets", environment=environment)
        self.shared: Coordination = MemoryCoordination(config, nothing)
        self.local_drawn: dict[str, DrawnBucket] = {}
        self.shared_drawn: dict[str, DrawnBucket] = {}
        #: Promised times, by bucket of one worker.
        self.turns: dict[str, list[float]] = {}
        self.rate = self.capacity = 1.0

    @initialize(rate=st.floats(0.01, 100), capacity=st.floats(1, 20))
    def choose(self, rate: float, capacity: float) -> None:
        self.rate, self.capacity = rate, capacity

    @rule(seconds=st.floats(0, 200))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(bucket=BUCKETS)
    def take_from_a_workers_own(self, bucket: str) -> None:
        drawn = self.local_drawn.setdefault(bucket, DrawnBucket(self.rate, 1.0, self.clock.now))
        wait = self.local.take(bucket, self.rate)
        assert wait == pytest.approx(drawn.take(self.clock.now), abs=1e-5)
        self.turns.setdefault(bucket, []).append(self.clock.now + wait)

    @rule(bucket=BUCKETS)
    def take_from_the_fleets(self, bucket: str) -> None:
        drawn = self.shared_drawn.setdefault(bucket, DrawnBucket(self.rate, self.capacity, self.clock.now))
        wait = outcome(self.shared.take(bucket, rate=self.rate, capacity=self.capacity))
        assert wait == pytest.approx(drawn.take(self.clock.now), abs=1e-4)

    @rule(bucket=BUCKETS, latest=st.floats(0, 10))
    def look_no_further(self, bucket: str, latest: float) -> None:
        """Where the next token is too far away nothing is reserved: to ask again changes nothing."""
        drawn = self.local_drawn.setdefault(bucket, DrawnBucket(self.rate, 1.0, self.clock.now))
        there = drawn.look(self.clock.now)
        assume(abs(there - latest) > 1e-4)
        wait = self.local.take(bucket, self.rate, latest=latest)
        if there > latest:
            assert wait == latest
        else:
            assert wait == pytest.approx(drawn.take(self.clock.now), abs=1e-5)
            self.turns.setdefault(bucket, []).append(self.clock.now + wait)

    @invariant()
    def turns_are_a_rate_apart(self) -> None:
        for turns in self.turns.values():
            if len(turns) > 1:
                assert turns[-1] - turns[-2] >= 1 / self.rate - 1e-6


TestBuckets = Buckets.TestCase
TestBuckets.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
