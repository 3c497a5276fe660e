"""How much work a worker holds, where it stands, and how much more it may take."""

from __future__ import annotations

import asyncio
import sys

from msgspec import Struct

from asyncq.driver import Clock

#: The fewest outcomes that make a batch, however small the concurrency is.
LEAST_CONCLUDING = 32


class WorkerStats(Struct, kw_only=True):
    """What a worker has done since it started."""

    received: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    snoozed: int = 0
    revoked: int = 0
    #: Gave their places to other tasks.
    replaced: int = 0
    rejected: int = 0
    ignored: int = 0
    #: Interrupted by the worker's stop, or never started, and given back.
    handed_back: int = 0
    #: Killed the process that they had to themselves, and went back to their queues.
    crashed: int = 0
    #: Sent to the dead letters: undecodable, unknown, rejected, or the death of too many processes.
    dead: int = 0
    #: Put aside until their ETA, or their turn, comes.
    parked: int = 0
    #: Outcomes dropped because the delivery had gone to somebody else meanwhile.
    lost: int = 0
    #: How often the event loop was late by 100 ms or more, and by how many seconds at most.
    lags: int = 0
    largest_lag: float = 0.0


class Prefetch:
    """How many deliveries to take beyond what can start at once.

    As many as the last second's rate can start in a second, so that a fast task never waits for the network; none where
    tasks last longer than a second on average, or none has ended within one, so that other workers get what this one
    could only sit on. A second is cut short when as many have ended as may run at once.
    """

    def __init__(self, concurrency: int, clock: Clock) -> None:
        self._concurrency = concurrency
        self._clock = clock
        self._since = clock.monotonic()
        self._ended = 0
        self._runtime = 0.0
        self._allowance = 0
        #: Seconds, of the runs that ended last.
        self.mean_runtime = 0.0

    def note(self, runtime: float) -> None:
        """Count a run of `runtime` seconds."""
        self._ended += 1
        self._runtime += runtime

    def resize(self, concurrency: int) -> None:
        """Another number may run at a time from now on."""
        self._concurrency = concurrency

    def allowance(self) -> int:
        elapsed = self._clock.monotonic() - self._since
        if elapsed >= 1.0 or self._ended >= self._concurrency:
            if self._ended:
                self.mean_runtime = self._runtime / self._ended
            if not self._ended or self.mean_runtime > 1.0:
                self._allowance = 0
            elif self._ended >= self._concurrency * elapsed:
                self._allowance = self._concurrency
            else:
                self._allowance = max(1, int(self._ended / elapsed))
            self._since += elapsed
            self._ended, self._runtime = 0, 0.0
        return self._allowance


class Flow:
    """Counts deliveries by place; whoever waits for a count to change waits here."""

    def __init__(self, concurrency: int, clock: Clock) -> None:
        self.stats = WorkerStats()
        self.prefetch = Prefetch(concurrency, clock)
        #: Admitted, waiting for a slot.
        self.waiting = 0
        #: Admitted, and of a task that runs as often as it may: these leave the slots to others.
        self.aside = 0
        #: In the user's code (or waiting for a thread).
        self.running = 0
        #: Ended, and not yet stored and published.
        self.concluding = 0
        self._concurrency = concurrency
        #: How many may run at a time at most, whoever asks for more.
        self.most_at_a_time = sys.maxsize
        # A batch that is being stored, and one that gathers meanwhile: with less, taking would wait for storing.
        self._most_concluding = 2 * max(concurrency, LEAST_CONCLUDING)
        self._changed = asyncio.Event()

    @property
    def concurrency(self) -> int:
        """How many may run at a time."""
        return self._concurrency

    def resize(self, concurrency: int) -> None:
        """Let another number run at a time, `most_at_a_time` at most. What runs beyond it ends by itself."""
        concurrency = min(concurrency, self.most_at_a_time)
        self._concurrency = concurrency
        self._most_concluding = 2 * max(concurrency, LEAST_CONCLUDING)
        self.prefetch.resize(concurrency)
        self.notify()

    @property
    def slots(self) -> int:
        """How many more may start now."""
        return self._concurrency - self.running

    @property
    def room(self) -> int:
        """How many deliveries to ask for. None while outcomes pile up: the backend is slow or away."""
        if self.concluding >= self._most_concluding:
            return 0
        free, allowance = self.slots - self.waiting, self.prefetch.allowance()
        if free > 0:
            return free + allowance
        # Every slot is taken or spoken for. What was taken beyond that is filled up by halves: one call to the broker
        # for each message that has begun would cost more than the messages.
        room = free + allowance
        return room if 2 * room >= allowance else 0

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing runs, nothing is left to conclude."""
        return not (self.waiting or self.aside or self.running or self.concluding)

    def notify(self) -> None:
        """A count has changed in a way that somebody may wait for."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until `notify` is called. Look at the counts again afterwards."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_for_room(self) -> int:
        """Wait until there is room; return how much."""
        while (room := self.room) <= 0:
            await self.change()
        return room
