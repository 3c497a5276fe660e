"""P7: the room that a worker asks for, against a model that remembers everything."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asyncq.worker._flow import LEAST_CONCLUDING, Flow


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Window(RuleBasedStateMachine):
    """A worker's counts, as the receiver, the dispatcher and the concluder move them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Hands()
        self.concurrency = 1
        self.flow = Flow(1, self.clock)
        #: Runtimes since the rate was taken last, when that was, and what came of it.
        self.runtimes: list[float] = []
        self.since = self.clock.now
        self.allowed = 0.0

    @initialize(concurrency=st.integers(1, 50))
    def choose(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.flow = Flow(concurrency, self.clock)

    @rule(seconds=st.floats(0, 5))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(part=st.floats(0, 1))
    def receive(self, part: float) -> None:
        """Between nothing and all that was asked for comes."""
        self.flow.waiting += round(part * max(0, self.flow.room))

    @precondition(lambda self: self.flow.waiting and self.flow.slots)
    @rule()
    def start(self) -> None:
        self.flow.waiting -= 1
        self.flow.running += 1

    @precondition(lambda self: self.flow.running)
    @rule(runtime=st.floats(0, 10))
    def end(self, runtime: float) -> None:
        self.flow.running -= 1
        self.flow.concluding += 1
        self.flow.prefetch.note(runtime)
        self.runtimes.append(runtime)

    @precondition(lambda self: self.flow.concluding)
    @rule()
    def conclude(self) -> None:
        self.flow.concluding -= 1

    @rule(outcomes=st.integers(0, 60))
    def outcomes_pile_up(self, outcomes: int) -> None:
        """The backend is away."""
        self.flow.concluding += outcomes

    @invariant()
    def room_is_bounded_by_slots_rate_and_outcomes(self) -> None:
        most = 2 * max(self.concurrency, LEAST_CONCLUDING)
        room, held = self.flow.room, self.flow.running + self.flow.waiting
        if self.flow.concluding >= most:
            assert room == 0
            return
        elapsed = self.clock.now - self.since
        if elapsed >= 1 or len(self.runtimes) >= self.concurrency:
            per_second = len(self.runtimes) / max(elapsed, 1e-9)
            is_slow = not self.runtimes or sum(self.runtimes) / len(self.runtimes) > 1
            self.allowed = 0 if is_slow else max(1, min(per_second, self.concurrency))
            self.runtimes, self.since = [], self.clock.now
        assert room >= self.concurrency - held, "a free slot is not asked for"
        assert room <= max(0, self.concurrency + self.allowed - held), "more is asked for than can start in a second"

    @invariant()
    def never_more_than_twice_the_concurrency_is_held(self) -> None:
        assert self.flow.running <= self.concurrency
        assert self.flow.running + self.flow.waiting <= 2 * self.concurrency


TestWindow = Window.TestCase
TestWindow.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
