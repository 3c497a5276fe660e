"""The ways of running a user's function: on the loop, in a thread, in a process."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias

import anyio
import anyio.to_thread

from asyncq._context import Context
from asyncq._middleware import AroundRun
from asyncq.errors import WorkerLostError
from asyncq.worker._attempt import Attempt
from asyncq.worker._process import call_in_process
from asyncq.worker._processes import ProcessDied, ProcessPool
from asyncq.worker._steps import SoftLimit, steps
from asyncq.worker._time_limits import InterruptibleCall

#: Does what must be done right before the user's first line, and returns the context that it runs in; raises when that
#: line must not run.
Begin: TypeAlias = Callable[[Attempt], Awaitable[Context]]

#: What a user's function returns: any type.
Value: TypeAlias = Any


class Caller(Protocol):
    """Runs an attempt's function to its end, and returns or raises what it does.

    The function may have to wait for a place first; `begin` is called when it has one.
    """

    async def call(self, attempt: Attempt, begin: Begin) -> Value: ...


class LoopCaller:
    """`async def`: a coroutine on the worker's loop. `on_loop` says whose step runs, where somebody looks at it."""

    def __init__(self, around: AroundRun | None, on_loop: memoryview[int] | None = None) -> None:
        self._around = around
        self._on_loop = on_loop

    async def call(self, attempt: Attempt, begin: Begin) -> Value:
        context = await begin(attempt)
        if self._around is None:
            return await self._run(attempt, context)
        return await self._around(context, partial(self._run, attempt, context))

    async def _run(self, attempt: Attempt, context: Context) -> Value:
        args, kwargs = _arguments(attempt, context)
        coroutine = attempt.program.definition.fn(*args, **kwargs)
        if attempt.soft_time_limit is None:
            return await (coroutine if self._on_loop is None else steps(coroutine, attempt, self._on_loop))
        with SoftLimit(attempt.soft_time_limit) as limit:
            return await steps(coroutine, attempt, self._on_loop, limit.translate)


class ThreadCaller:
    """`def`: a thread. Whoever waits for one has not started.

    The threads are anyio's, the limit is ours: its default limiter, like asyncio's default executor, is the user's. A
    thread that is given up (a hard limit, the worker's end) keeps its slot until it really ends; `stuck` is called when
    it goes on for `patience` seconds.
    """

    def __init__(
        self,
        limit: int,
        around: AroundRun | None,
        *,
        patience: float = math.inf,
        stuck: Callable[[Attempt], None] | None = None,
        count: Callable[[int], None] | None = None,
    ) -> None:
        """`count` is told by how many the threads that work become more or less."""
        self._around = around
        self._count = count
        self._patience = patience
        self._stuck = stuck
        self._given_up: set[_ThreadSlot] = set()
        self._slots = asyncio.Semaphore(limit)
        self._unlimited = anyio.CapacityLimiter(math.inf)

    async def call(self, attempt: Attempt, begin: Begin) -> Value:
        await self._slots.acquire()
        slot = _ThreadSlot(self._release)
        if self._count is not None:
            self._count(1)
        try:
            context = await begin(attempt)
            if self._around is None:
                return await self._run(attempt, context, slot)
            return await self._around(context, partial(self._run, attempt, context, slot))
        finally:
            if not slot.leave():
                self._given_up.add(slot)
                if self._stuck is not None:
                    look_after = partial(self._look_after, slot, attempt, self._stuck)
                    asyncio.get_running_loop().call_later(self._patience, look_after)

    @property
    def abandoned(self) -> bool:
        """A thread that was given up still works."""
        return bool(self._given_up)

    def _look_after(self, slot: _ThreadSlot, attempt: Attempt, stuck: Callable[[Attempt], None]) -> None:
        if slot in self._given_up:
            stuck(attempt)

    def _release(self, slot: _ThreadSlot) -> None:
        self._given_up.discard(slot)
        self._slots.release()
        if self._count is not None:
            self._count(-1)

    async def _run(self, attempt: Attempt, context: Context, slot: _ThreadSlot) -> Value:
        args, kwargs = _arguments(attempt, context)
        call = InterruptibleCall(partial(attempt.program.definition.fn, *args, **kwargs))
        with _interrupting(call, after=attempt.soft_time_limit):
            return await anyio.to_thread.run_sync(
                slot.occupied_by(call), abandon_on_cancel=True, limiter=self._unlimited
            )


class ProcessCaller:
    """`executor="process"`: a process that runs one task at a time, and is killed when the task is cancelled."""

    def __init__(self, limit: int, around: AroundRun | None) -> None:
        self._around = around
        self._slots = asyncio.Semaphore(limit)
        self._processes = ProcessPool()

    async def close(self) -> None:
        """Kill the processes."""
        await self._processes.close()

    async def call(self, attempt: Attempt, begin: Begin) -> Value:
        async with self._slots:
            context = await begin(attempt)
            if self._around is None:
                return await self._run(attempt, context)
            return await self._around(context, partial(self._run, attempt, context))

    async def _run(self, attempt: Attempt, context: Context) -> Value:
        args, kwargs = _arguments(attempt, context)
        fn, limit = attempt.program.definition.fn, attempt.soft_time_limit
        try:
            return await self._processes.run(call_in_process, fn.__module__, fn.__qualname__, args, kwargs, limit)
        except ProcessDied as died:
            raise WorkerLostError(str(died)) from None


async def value_of(caller: Caller, attempt: Attempt, begin: Begin) -> Value:
    """Call it, and close what it has opened."""
    try:
        value = await caller.call(attempt, begin)
    except BaseException as exc:
        if attempt.scope is not None:
            await attempt.scope.close(exc)
        raise
    if attempt.scope is not None:
        await attempt.scope.close(None)
    return value


def _arguments(attempt: Attempt, context: Context) -> tuple[Any, dict[str, Any]]:
    """Return what the function is called with. Raises InvalidArguments."""
    args, kwargs = attempt.message.args, attempt.message.kwargs
    program = attempt.program
    if program.validate is not None:
        args, kwargs = program.validate(args, kwargs)
    if program.definition.takes_context:
        args = (context, *args)
    return args, kwargs


@contextmanager
def _interrupting(call: InterruptibleCall, *, after: float | None) -> Generator[None]:
    if after is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        nonlocal timer
        if not call.interrupt():  # the system was slow to start the thread: its time has not begun
            timer = loop.call_later(after, interrupt)

    timer = loop.call_later(after, interrupt)
    try:
        yield
    finally:
        timer.cancel()


class _ThreadSlot:
    """Gives a slot back when both have let go of it: the coroutine that waits, and the thread that works."""

    def __init__(self, release: Callable[[_ThreadSlot], None]) -> None:
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._working = False
        self._left = False

    def occupied_by(self, call: Callable[[], Value]) -> Callable[[], Value]:
        def work() -> Value:
            with self._lock:
                if self._left:  # given up before it began: the slot is somebody else's already
                    return None
                self._working = True
            try:
                return call()
            finally:
                with self._lock:
                    self._working = False
                    last = self._left
                if last:
                    self._release_from_thread()

        return work

    def leave(self) -> bool:
        """The coroutine has its answer, or waits no longer. False: the thread works on."""
        with self._lock:
            self._left = True
            working = self._working
        if not working:
            self._release(self)
        return not working

    def _release_from_thread(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release, self)
