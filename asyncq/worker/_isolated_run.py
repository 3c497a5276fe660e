"""A suspect's run, in the process that it has to itself: everything that a worker gives a task, and nothing it takes.

The worker keeps the lease, the time limit, the result and the settlement; what is here may die at any moment.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeGuard

import anyio
from msgspec import Struct

from asyncq._context import Context, current_context
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq._middleware import around_run
from asyncq._resources import open_lifespans
from asyncq.driver import Delivery, ResultBackend
from asyncq.errors import BackendConnectionError, EncodeError, Reject, Retry
from asyncq.protocol import WireMessage, decode_task
from asyncq.worker._attempt import Attempt, Surroundings
from asyncq.worker._backoff import Backoff
from asyncq.worker._calls import LoopCaller, ThreadCaller, value_of
from asyncq.worker._judge import wants_retry
from asyncq.worker._outcome import (
    Failed,
    Outcome,
    Rejected,
    RetryAsked,
    Succeeded,
    outcome_of,
    users_part,
)
from asyncq.worker._process import named, note_traceback, portable, why_not
from asyncq.worker._program import compile_task
from asyncq.worker._record_encoder import RecordEncoder
from asyncq.worker._recorder import Recorder
from asyncq.worker._setup import WorkerSetup

#: Apps (by `id`) that were set up in this process without a fault.
_rehearsed: set[int] = set()


class _App(Protocol):
    def worker_setup(self) -> WorkerSetup: ...

    async def aclose(self) -> None: ...


class _Task(Protocol):
    @property
    def definition(self) -> TaskDefinition: ...

    @property
    def app(self) -> _App: ...


class Suspect(Struct, frozen=True, kw_only=True):
    """A delivery, as it crosses to the process."""

    #: Where the task is found.
    module: str
    qualname: str
    #: The worker that runs it.
    node: str
    queue: str
    content: bytes | WireMessage


class Report(Struct, frozen=True):
    """How it ended, as it crosses back."""

    outcome: Outcome
    #: Result tuples of what it has sent.
    children: list[Any]


def is_task(found: object, definition: TaskDefinition | None = None) -> TypeGuard[_Task]:
    """Whether this is a task with its app, and the one that is meant."""
    own = getattr(found, "definition", None)
    return isinstance(own, TaskDefinition) and (definition is None or own is definition) and hasattr(found, "app")


def prepare(module: str, qualname: str) -> bool:
    """See that a suspect will find what it needs, before its time runs; False when there is no task under that name.

    Raises what the module or a lifespan raises: one that takes a port, say, can't be opened beside the worker's own.
    """
    task = named(module, qualname)
    if not is_task(task):
        return False
    if id(task.app) not in _rehearsed:
        asyncio.run(_rehearse(task.app))
        _rehearsed.add(id(task.app))
    return True


def run_suspect(suspect: Suspect) -> Report:
    """Run it on a loop of its own. Whatever it raises is in the report; what kills the process is not."""
    task = named(suspect.module, suspect.qualname)
    if not is_task(task):
        raise LookupError(f"{suspect.module}.{suspect.qualname} is no task here")
    return asyncio.run(_run(task, suspect))


async def _rehearse(app: _App) -> None:
    async with AsyncExitStack() as stack:
        await open_lifespans(stack, app.worker_setup().lifespans)


async def _run(task: _Task, suspect: Suspect) -> Report:
    setup = task.app.worker_setup()
    message = decode_task(suspect.content, limits=setup.limits, accept=frozenset(setup.accept))
    program = compile_task(task.definition, setup)
    # Not this delivery's real tag: it is not settled here.
    delivery = Delivery(tag="", queue=suspect.queue, content=suspect.content, redelivered=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(task.app.aclose)
        states = _States(setup, suspect.node)
        stack.push_async_callback(states.close)
        resources = await open_lifespans(stack, setup.lifespans)
        attempt = Attempt(delivery, message, program, Surroundings(suspect.node, states, setup.limits, resources))
        around = around_run(setup.middleware)
        caller = LoopCaller(around) if program.definition.is_coroutine else ThreadCaller(1, around)
        try:
            outcome: Outcome = Succeeded(await value_of(caller, attempt, _begin))
        except BaseException as exc:  # noqa: BLE001 - the boundary to the user's code: whatever it raises is an outcome
            exc.__traceback__ = users_part(exc.__traceback__)
            outcome = outcome_of(exc)
        attempt.ended = True
        return Report(_portable(outcome, program.definition.options), attempt.children)


async def _begin(attempt: Attempt) -> Context:
    context = attempt.make_context()
    current_context.set(context)
    return context


def _portable(outcome: Outcome, options: TaskOptions) -> Outcome:
    """The outcome, so that it can cross. What depends on the class of an exception is decided before."""
    match outcome:
        case Succeeded(value):
            reason = why_not(value)
            if reason is not None:
                return Failed(EncodeError(f"the result can't leave its process: {reason}"), retryable=False)
            return outcome
        case Failed(exc, retryable):
            note_traceback(exc)
            if retryable and wants_retry(exc, options):
                return RetryAsked(Retry(exc=portable(exc)))
            return Failed(portable(exc), retryable=False)
        case RetryAsked(retry):
            if retry.exc is not None:
                note_traceback(retry.exc)
                retry.exc = portable(retry.exc)
            # Made anew: what the user derived from it may not cross.
            again = Retry(retry.message, retry.exc, countdown=retry.countdown, max_retries=retry.max_retries)
            return RetryAsked(again)
        case Rejected(reject):
            return Rejected(reject if why_not(reject) is None else Reject(str(reject.reason), requeue=reject.requeue))
        case _:
            return outcome


class _States:
    """Stores the task's interim states."""

    def __init__(self, setup: WorkerSetup, node: str) -> None:
        self._setup = setup
        self._records = RecordEncoder(setup, node=node)
        self._opening = asyncio.Lock()
        self._recorder: Recorder | None = None

    async def store_state(self, attempt: Attempt, state: str, meta: Any) -> None:
        """Store one. Raises EncodeError."""
        record = self._records.of(attempt, state, meta)
        backend = self._setup.backend
        if record is not None and backend is not None:
            async with self._opening:
                if self._recorder is None:
                    self._recorder = await self._open(backend)
                await self._recorder.store([record])

    async def _open(self, backend: ResultBackend) -> Recorder:
        dice = self._setup.environment.random
        backoff = Backoff(dice)
        while True:
            try:
                await backend.open()
            except BackendConnectionError:
                await anyio.sleep(backoff.next_delay())
            else:
                return Recorder(backend, dice)

    async def close(self) -> None:
        if self._setup.backend is not None:
            await self._setup.backend.close()
