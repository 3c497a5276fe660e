"""Runs the user's functions: coroutines on the loop, the others in threads."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, cast

import anyio
import anyio.to_thread

from asyncq._context import current_context
from asyncq.driver import Ack, Clock
from asyncq.errors import Ignore, InvalidArguments, Reject, Retry
from asyncq.worker._attempt import Attempt
from asyncq.worker._concluder import Concluder
from asyncq.worker._flow import Flow
from asyncq.worker._leases import LeaseKeeper
from asyncq.worker._outcome import Failed, Ignored, Interrupted, Outcome, Rejected, RetryAsked, Succeeded
from asyncq.worker._settler import Settler

#: Modules whose frames stand between the worker and the user's function.
_RUNTIME = ("asyncq.worker.", "anyio.")


class Executor:
    """Owns one asyncio task for each running attempt: holds it, ends it, and hands its outcome on.

    Bare asyncio tasks and no task group, because this is the path of every message (a third of the cost, measured).
    """

    def __init__(
        self,
        *,
        concluder: Concluder,
        settler: Settler,
        leases: LeaseKeeper,
        flow: Flow,
        clock: Clock,
        threads: int,
    ) -> None:
        self._concluder = concluder
        self._settler = settler
        self._leases = leases
        self._flow = flow
        self._clock = clock
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        # Slots and threads of our own: anyio's default limiter and asyncio's executor are the user's.
        self._slots = asyncio.Semaphore(threads)
        self._threads = anyio.CapacityLimiter(threads)
        self._interrupting = False

    def start(self, attempt: Attempt) -> None:
        """Run it now."""
        self._flow.running += 1
        self._running[attempt] = asyncio.get_running_loop().create_task(self._run(attempt))

    def interrupt(self) -> None:
        """Cancel whatever runs: the worker stops. The outcomes say `Interrupted`."""
        self._interrupting = True
        for task in tuple(self._running.values()):
            task.cancel()

    def abandon(self) -> list[Attempt]:
        """Give up on what doesn't end though it was cancelled (a thread, a swallower); whatever it does is dropped."""
        abandoned, self._running = list(self._running), {}
        self._flow.running -= len(abandoned)
        return abandoned

    async def _run(self, attempt: Attempt) -> None:
        outcome = await self._perform(attempt)
        if self._running.pop(attempt, None) is None:  # abandoned
            return
        if attempt.started_at is not None:
            attempt.runtime = self._clock.monotonic() - attempt.started_at
            self._flow.prefetch.note(attempt.runtime)
        self._flow.running -= 1
        self._concluder.put((attempt, outcome))
        self._flow.notify()

    async def _perform(self, attempt: Attempt) -> Outcome:
        try:
            if attempt.program.definition.is_coroutine:
                return Succeeded(await self._on_loop(attempt)) if await self._begin(attempt) else Interrupted()
            async with self._slots:  # whoever waits for a thread has not started
                return Succeeded(await self._in_thread(attempt)) if await self._begin(attempt) else Interrupted()
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - the boundary to the user's code: whatever it raises is an outcome
            return self._outcome_of(exc)

    async def _begin(self, attempt: Attempt) -> bool:
        """Do what must be done before the first line of the user's code; False when the delivery is lost."""
        program, delivery = attempt.program, attempt.delivery
        if not self._leases.is_confirmed(delivery) and await self._leases.confirm([delivery]):
            attempt.lost = True
            return False
        if not program.acks_late:
            if not await self._settler.settle(Ack(delivery)):
                attempt.lost = True
                return False
            attempt.acknowledged = True
        if program.track_started:
            await attempt.store_started()
        current_context.set(attempt.context)  # in this asyncio task's own copy of the variables
        attempt.started_at = self._clock.monotonic()
        return True

    async def _on_loop(self, attempt: Attempt) -> Any:
        args, kwargs = _arguments(attempt)
        return await attempt.program.definition.fn(*args, **kwargs)

    async def _in_thread(self, attempt: Attempt) -> Any:
        args, kwargs = _arguments(attempt)
        call = partial(attempt.program.definition.fn, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)

    def _outcome_of(self, exc: BaseException) -> Outcome:
        exc.__traceback__ = _users_part(exc.__traceback__)
        match _steering(exc) or exc:
            case Retry() as retry:
                return RetryAsked(retry)
            case Ignore():
                return Ignored()
            case Reject() as reject:
                return Rejected(reject)
            case InvalidArguments():
                return Failed(exc, retryable=False)
            case asyncio.CancelledError() if self._interrupting:
                return Interrupted()
            case _:
                return Failed(exc)


def _arguments(attempt: Attempt) -> tuple[Any, dict[str, Any]]:
    """Return what the function is called with. Raises InvalidArguments."""
    args, kwargs = attempt.message.args, attempt.message.kwargs
    program = attempt.program
    if program.validate is not None:
        args, kwargs = program.validate(args, kwargs)
    if program.definition.takes_context:
        args = (attempt.context, *args)
    return args, kwargs


def _users_part(traceback: TracebackType | None) -> TracebackType | None:
    """Cut off the frames above the user's code: the worker's own, and the library's that calls it in a thread."""
    part = traceback
    while part is not None and part.tb_frame.f_globals.get("__name__", "").startswith(_RUNTIME):
        part = part.tb_next
    return part


def _steering(exc: BaseException) -> BaseException | None:
    """Find the Retry, Ignore or Reject that a task group has wrapped: it was raised in its body or in a child."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc if isinstance(exc, Retry | Ignore | Reject) else None
    group = cast("BaseExceptionGroup[BaseException]", exc)
    return next(filter(None, map(_steering, group.exceptions)), None)
