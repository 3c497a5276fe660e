"""Runs attempts: holds an asyncio task for each, keeps its time limit, and hands its outcome on."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from asyncq._context import Context, current_context
from asyncq._flight import FlightRecorder
from asyncq._middleware import around_run
from asyncq.driver import Ack
from asyncq.errors import TimeLimitExceeded
from asyncq.worker._attempt import Attempt
from asyncq.worker._calls import Caller, LoopCaller, ProcessCaller, ThreadCaller, value_of
from asyncq.worker._concluder import Concluder
from asyncq.worker._coordinated import Coordinated
from asyncq.worker._flow import Flow
from asyncq.worker._hold import Hold
from asyncq.worker._outcome import (
    Failed,
    FoundElsewhere,
    Ignored,
    Interrupted,
    Lost,
    NotStarted,
    Outcome,
    Revoked,
    Succeeded,
    outcome_of,
    users_part,
)
from asyncq.worker._program import Program
from asyncq.worker._quarantine import QuarantineCaller
from asyncq.worker._setup import WorkerSetup

logger = logging.getLogger(__name__)

#: More only burn the processor: a scope that cancels anew each turn of the loop did so 130,000 times in 3 s (measured).
_MOST_CANCELS = 3

#: Seconds that the last cancellation has.
_LAST_WORD = 0.05


class _NotOurs(Exception):
    """The delivery went to somebody else before the first line ran."""


class _NotWanted(Exception):
    """The task expired or was revoked before the first line ran."""


class _SentTwice(Exception):
    """Another sending of this message has started before."""


class _TooLate(Exception):
    """The worker stopped before the first line ran."""


class Executor:
    """Owns one asyncio task for each running attempt: holds it, ends it, and hands its outcome on.

    Bare asyncio tasks and no task group, because this is the path of every message (a third of the cost, measured).
    """

    def __init__(
        self,
        *,
        setup: WorkerSetup,
        node: str,
        concluder: Concluder,
        hold: Hold,
        coordinated: Coordinated,
        flow: Flow,
        flights: FlightRecorder | None,
        condemn: Callable[[str], None],
    ) -> None:
        around = around_run(setup.middleware)
        self._concluder = concluder
        self._settler = hold.settler
        self._leases = hold.leases
        self._flow = flow
        self._revoker = coordinated.revoker
        self._claims = coordinated.claims
        self._files = coordinated.files
        self._dispatches = coordinated.dispatches
        #: Opened by those who read the flight table.
        self._wills = None if flights is None else coordinated.wills
        self._clock = setup.environment.clock
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._kill_grace = setup.kill_grace
        self._flights = flights
        self._condemn = condemn
        #: What was given up, and goes on all the same.
        self._given_up: dict[asyncio.Task[None], Attempt] = {}
        self._on_loop = LoopCaller(around, on_loop=None if flights is None else flights.on_loop)
        self._in_thread = ThreadCaller(
            setup.threads,
            around,
            patience=setup.kill_grace,
            stuck=self._is_stuck,
            count=None if flights is None else flights.count_threads,
        )
        self._in_process = ProcessCaller(setup.threads, around)
        self._in_quarantine = QuarantineCaller(node, self._usual_caller_of)
        #: Suspects that run, or are about to.
        self.quarantined = 0
        #: Name of a task -> how many of it run.
        self._bounded: Counter[str] = Counter()
        self._stopping = False

    def start(self, attempt: Attempt) -> None:
        """Run it now."""
        self._flow.running += 1
        if attempt.quarantined:
            self.quarantined += 1
        if attempt.program.max_running is not None:
            self._bounded[attempt.program.definition.name] += 1
        self._running[attempt] = asyncio.get_running_loop().create_task(self._run(attempt))

    @property
    def running(self) -> list[Attempt]:
        """What runs, or is about to."""
        return list(self._running)

    def running_of(self, program: Program) -> int:
        """How many runs of a task are under way; counted only where `max_running` bounds them."""
        return self._bounded.get(program.definition.name, 0)

    def interrupt(self) -> None:
        """Cancel whatever runs: the worker stops. The outcomes say `Interrupted`."""
        for attempt, task in tuple(self._running.items()):
            attempt.interrupted = True
            task.cancel()

    def refuse_starts(self) -> None:
        """What waits for a thread, or for a confirmation, shall not begin any more: the worker stops."""
        self._stopping = True

    async def join(self, timeout: float) -> None:
        """Wait until what runs has ended, at most `timeout` seconds."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout)

    async def close(self) -> None:
        """End the processes that tasks have run in."""
        await self._in_process.close()
        await self._in_quarantine.close()

    def abandon(self) -> list[Attempt]:
        """Give up on what doesn't end though it was cancelled (a thread, a swallower); whatever it does is dropped."""
        abandoned, self._running = self._running, {}
        for attempt, task in abandoned.items():
            attempt.ended = True
            self._give_up(attempt, task)
        self._flow.running -= len(abandoned)
        return list(abandoned)

    async def _run(self, attempt: Attempt) -> None:
        try:
            outcome: Outcome | Lost = Succeeded(await value_of(self._caller_of(attempt), attempt, self._begin))
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - the boundary to the user's code: whatever it raises is an outcome
            outcome = self._outcome_of(attempt, exc)
        if self._running.pop(attempt, None) is None:  # given up meanwhile
            return
        self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: Outcome | Lost) -> None:
        attempt.ended = True
        if attempt.started_at is not None:
            attempt.runtime = self._clock.monotonic() - attempt.started_at
            self._flow.prefetch.note(attempt.runtime)
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt.verdict is not None:
            outcome = attempt.verdict
        if attempt.program.max_running is not None:
            self._bounded[attempt.program.definition.name] -= 1
        if attempt.quarantined:
            self.quarantined -= 1
        self._flow.running -= 1
        self._concluder.put((attempt, outcome))
        self._flow.notify()

    def _caller_of(self, attempt: Attempt) -> Caller:
        return self._in_quarantine if attempt.quarantined else self._usual_caller_of(attempt)

    def _usual_caller_of(self, attempt: Attempt) -> Caller:
        definition = attempt.program.definition
        if definition.is_coroutine:
            return self._on_loop
        return self._in_process if definition.options.executor == "process" else self._in_thread

    async def _begin(self, attempt: Attempt) -> Context:
        """Do what must be done before the first line of the user's code.

        Raises _NotOurs, _NotWanted, _SentTwice, _TooLate.
        """
        program, delivery = attempt.program, attempt.delivery
        self._check_started_in_time(attempt)
        self._check_wanted(attempt)
        if not self._leases.is_confirmed(delivery) and await self._leases.confirm([delivery]):
            raise _NotOurs
        dispatches = None if attempt.message.dispatch is None else self._dispatches
        if dispatches is not None and not await dispatches.begin(attempt):
            raise _SentTwice
        claims = None if program.definition.options.unique is None else self._claims
        if claims is not None and not await claims.begin(attempt):
            raise _NotWanted("duplicate")
        if self._files is not None and attempt.suspicion is not None:
            await self._files.begin(attempt)
        if not program.acks_late:
            if self._wills is not None:
                await self._wills.write(attempt)
            # From the acknowledgement on the table alone knows of it, however long it takes to store STARTED.
            self._enter(attempt, self._clock.monotonic())
            await self._acknowledge(attempt)
        if program.track_started:
            await attempt.store_started()
        self._check_started_in_time(attempt)
        context = attempt.make_context()
        current_context.set(context)  # in this asyncio task's own copy of the variables
        attempt.started_at = self._clock.monotonic()
        self._enter(attempt, attempt.started_at)
        if attempt.time_limit is not None:
            verdict = Failed(TimeLimitExceeded(attempt.time_limit))
            attempt.timer = asyncio.get_running_loop().call_later(attempt.time_limit, self._force, attempt, verdict)
        return context

    def _enter(self, attempt: Attempt, started_at: float) -> None:
        """Tell the flight table that it begins; what stands there already begins only now."""
        if self._flights is None:
            return
        # A supervised worker goes by the machine's own clock, as the table does.
        deadline = math.inf if attempt.time_limit is None else started_at + attempt.time_limit
        if attempt.slot:
            self._flights.start(attempt.slot, started_at, deadline)
            return
        message, delivery = attempt.message, attempt.delivery
        attempt.slot = self._flights.enter(
            message.id,
            message.task,
            delivery.queue,
            delivery.tag,
            started_at,
            deadline,
            # Of a failure, which is all that somebody else may have to store for it.
            attempt.ignore_result and not attempt.program.store_errors,
        )

    async def _acknowledge(self, attempt: Attempt) -> None:
        """Early ack: from here on it runs at most once. Raises _NotOurs."""
        ack = Ack(attempt.delivery)
        try:
            ours = await self._settler.settle(ack)
        except asyncio.CancelledError:
            # Once this has gone out, the message is gone, and the task must not end unheard.
            if not self._settler.withdraw(ack):
                self._is_acknowledged(attempt)
            raise
        if not ours:
            raise _NotOurs
        self._is_acknowledged(attempt)

    def _is_acknowledged(self, attempt: Attempt) -> None:
        attempt.acknowledged = True
        if self._flights is not None:
            self._flights.acknowledge(attempt.slot)

    def _check_started_in_time(self, attempt: Attempt) -> None:
        # What is acknowledged must run: it would be lost otherwise.
        if self._stopping and not attempt.acknowledged:
            raise _TooLate

    def _check_wanted(self, attempt: Attempt) -> None:
        expires = attempt.message.expires
        if expires is not None and self._clock.wall() > expires.timestamp():
            raise _NotWanted("expired")
        if self._revoker is not None and self._revoker.revocation_of(attempt.message.id) is not None:
            raise _NotWanted("revoked")

    def terminate_revoked(self) -> None:
        """End what runs and was revoked with `terminate`."""
        if self._revoker is None:
            return
        for attempt in tuple(self._running):
            revocation = self._revoker.revocation_of(attempt.message.id)
            if revocation is not None and revocation.terminate and attempt.verdict is None:
                self._force(attempt, Revoked("terminated"))

    def _force(self, attempt: Attempt, verdict: Outcome, cancels: int = 0) -> None:
        """End a task with this outcome, whatever it does: cancel it, then at half and at the end of `kill_grace`."""
        task = self._running.get(attempt)
        if task is None:
            return
        attempt.verdict = verdict
        if attempt.timer is not None:
            attempt.timer.cancel()
        if cancels < _MOST_CANCELS:
            task.cancel()
            pause = self._kill_grace / 2 if cancels < _MOST_CANCELS - 1 else _LAST_WORD
            attempt.timer = asyncio.get_running_loop().call_later(pause, self._force, attempt, verdict, cancels + 1)
            return
        # It swallows its cancellation. That changes nothing; what it still does is nobody's business any more.
        self._give_up(attempt, self._running.pop(attempt))
        logger.error(
            "%s goes on though it was cancelled %d times: it is given up", attempt, cancels, extra=attempt.log_fields()
        )
        self._end(attempt, verdict)
        self._condemn(f"{attempt.message.task}[{attempt.message.id}] can't be stopped")

    def _give_up(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        self._given_up[task] = attempt
        task.add_done_callback(self._given_up.pop)

    def _is_stuck(self, attempt: Attempt) -> None:
        """The thread of a `def` task that was given up goes on."""
        logger.error("%s goes on in its thread, which can't be stopped", attempt, extra=attempt.log_fields())
        self._condemn(f"{attempt.message.task}[{attempt.message.id}] can't be stopped in its thread")

    @property
    def abandoned(self) -> bool:
        """Something that was given up still runs."""
        return bool(self._given_up) or self._in_thread.abandoned

    def culprit(self, task: asyncio.Task[Any]) -> Attempt | None:
        """Whose code an asyncio task runs: a run's own, or one that it has started. May be asked in any thread."""
        if task in self._given_up:
            return self._given_up[task]
        for attempt, own in tuple(self._running.items()):
            if own is task:
                return attempt
        get_context = getattr(task, "get_context", None)  # Python 3.12
        context = None if get_context is None else get_context().get(current_context)
        attempt = None if context is None else context._attempt
        return attempt if isinstance(attempt, Attempt) else None

    def longest_time_left(self) -> float:
        """Seconds until the last hard limit of what runs has passed; 0 where nothing has one."""
        now = self._clock.monotonic()
        return max(
            (
                attempt.started_at + attempt.time_limit - now
                for attempt in self._running
                if attempt.started_at is not None and attempt.time_limit is not None
            ),
            default=0.0,
        )

    def _outcome_of(self, attempt: Attempt, exc: BaseException) -> Outcome | Lost:
        exc.__traceback__ = users_part(exc.__traceback__)
        match exc:
            case _NotOurs():
                return Lost()
            case _NotWanted():
                return Revoked(str(exc))
            case _SentTwice():
                return Ignored()
            case _TooLate():
                return NotStarted()
            case FoundElsewhere():
                return exc.outcome
            case _:
                outcome = outcome_of(exc)
        if attempt.interrupted and isinstance(outcome, Failed) and outcome.retryable:
            return Interrupted()  # whatever the cancellation became on its way out
        return outcome
