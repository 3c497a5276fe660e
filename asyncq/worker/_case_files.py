"""What speaks against tasks, kept while they run: put down before they start, put right when they have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from asyncq._suspicion import Conviction, Suspicion, close_files, read_files, withdraw_run, write_suspicions
from asyncq.driver import Clock, Coordination
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._attempt import Attempt
from asyncq.worker._backoff import Backoff
from asyncq.worker._conclusion import Conclusion

logger = logging.getLogger(__name__)

#: It comes again, and what speaks against it with it: less the run that has just ended, or one more death.
_TO_COME_AGAIN = frozenset({"INTERRUPTED", "CRASHED"})


class CaseFiles:
    """The way to what is known of tasks. While the store is away, nothing is known, and nothing is put down.

    Tasks run all the same then: to hold them back would let a store that is away stop the queue, and what a suspect
    can do among others is bounded by the supervisor, who restarts what it kills.
    """

    def __init__(self, coordination: Coordination, backoff: Backoff, clock: Clock, *, node: str) -> None:
        self._coordination = coordination
        self._backoff = backoff
        self._clock = clock
        self._node = node
        self._away_until = 0.0
        self._starting: list[tuple[Attempt, asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()
        #: Ids of tasks that were put down as running here, and have not ended.
        self._here: set[str] = set()
        #: Something was ever read: as long as nothing was, there is nothing to put right.
        self.in_use = False

    async def read(self, attempts: Sequence[Attempt]) -> list[tuple[Conviction | None, Suspicion | None]] | None:
        """What is known of each; None while the store is away."""
        self.in_use = True
        if self._clock.monotonic() < self._away_until:  # a task that could run is not held up by each time-out
            return None
        try:
            known = await read_files(self._coordination, [attempt.message.id for attempt in attempts])
        except (BrokerError, BackendError) as error:
            self._note_failure("What is known of deliveries that come again can't be read, they run as usual", error)
            return None
        if self._backoff.reset():
            logger.info("What is known of deliveries that come again can be read again")
        return [
            (conviction, self._without_own(attempt, suspicion))
            for attempt, (conviction, suspicion) in zip(attempts, known, strict=True)
        ]

    def _without_own(self, attempt: Attempt, suspicion: Suspicion | None) -> Suspicion | None:
        """A run of it that goes on here has lost its lease, while the machine slept for example, and is no death."""
        if suspicion is not None and suspicion.node == self._node and attempt.message.id in self._here:
            return suspicion.at_rest()
        return suspicion

    async def begin(self, attempt: Attempt) -> None:
        """Put down that it runs here, with others that start at this moment."""
        if attempt.suspicion is not None:
            attempt.suspicion.node = self._node
            self._here.add(attempt.message.id)
            done = asyncio.get_running_loop().create_future()
            self._starting.append((attempt, done))
            self._wanted.set()
            await done

    async def end(self, conclusions: Sequence[Conclusion]) -> None:
        """Put right what speaks against these, before their deliveries go to anybody else."""
        kept: list[tuple[str, Suspicion]] = []
        closed: list[str] = []
        for conclusion in conclusions:
            attempt = conclusion.attempt
            if attempt is None or attempt.suspicion is None:
                continue
            self._here.discard(attempt.message.id)
            if conclusion.state in _TO_COME_AGAIN:
                kept.append((attempt.message.id, attempt.suspicion.at_rest()))
            else:
                closed.append(attempt.message.id)
        try:
            await write_suspicions(self._coordination, kept)
            await close_files(self._coordination, closed)
        except (BrokerError, BackendError) as error:
            self._note_failure("What speaks against tasks that have ended can't be put right", error)

    async def rest(self, attempts: Sequence[Attempt]) -> None:
        """These run no more, and come again: the worker stops, and gives them up."""
        running = [attempt for attempt in attempts if attempt.suspicion is not None]
        await self.end([Conclusion(attempt=attempt, state="INTERRUPTED") for attempt in running])

    async def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """The leases of these were lost, and they have ended all the same: nobody shall presume a death."""
        self._here.difference_update(attempt.message.id for attempt in attempts)
        try:
            for attempt in attempts:
                if attempt.suspicion is not None and attempt.suspicion.node:
                    await withdraw_run(self._coordination, attempt.message.id, attempt.suspicion)
        except (BrokerError, BackendError) as error:
            self._note_failure("What speaks against tasks whose leases were lost can't be put right", error)

    async def run(self) -> None:
        """Write what `begin` was given."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch = [(attempt, done) for attempt, done in self._starting if not done.done()]
            self._starting = []
            started = [(a.message.id, a.suspicion) for a, _ in batch if a.suspicion is not None]
            try:
                await write_suspicions(self._coordination, started)
            except (BrokerError, BackendError) as error:
                self._note_failure("It can't be put down which deliveries start that came again", error)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _note_failure(self, what: str, error: Exception) -> None:
        if not self._backoff.failing:
            logger.warning("%s: %s", what, error)
        self._away_until = self._clock.monotonic() + self._backoff.next_delay()
