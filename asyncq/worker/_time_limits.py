"""Soft and hard limits of a run: who asks for the end of it, and how it is told."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from asyncq.errors import SoftTimeLimitExceeded

#: What the user's function returns: any type.
Value = Any


class SoftLimit:
    """Awaits a coroutine; after `limit` seconds it raises SoftTimeLimitExceeded inside, where it stands, once.

    The one cancellation that it asked for is turned into that exception on its way in; every other one passes as it is.
    The exception is a cancellation to asyncio (see its class), so that task groups and time-outs between here and the
    place where the coroutine waits cancel their children.
    """

    __slots__ = ("_asked", "_coroutine", "_limit")

    def __init__(self, coroutine: Coroutine[Any, Any, Value], limit: float) -> None:
        self._coroutine = coroutine
        self._limit = limit
        self._asked = False

    def __await__(self) -> Generator[Any, Any, Value]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - nobody awaits outside of a task
        timer = asyncio.get_running_loop().call_later(self._limit, self._ask, task)
        try:
            return (yield from self._drive(task))
        finally:
            timer.cancel()

    def _ask(self, task: asyncio.Task[Any]) -> None:
        self._asked = True
        task.cancel()

    def _drive(self, task: asyncio.Task[Any]) -> Generator[Any, Any, Value]:
        coroutine = self._coroutine
        try:
            waits_for = coroutine.send(None)
            while True:
                value, raised = None, None
                try:
                    value = yield waits_for
                except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                    raised = exc
                # Thrown from here and not from the handler above: what Python handles at that moment would become the
                # context of whatever is raised inside, and anyio reads contexts to tell its cancellations from others.
                if raised is None:
                    waits_for = coroutine.send(value)
                elif self._asked and isinstance(raised, asyncio.CancelledError):
                    self._asked = False
                    task.uncancel()
                    waits_for = coroutine.throw(SoftTimeLimitExceeded(self._limit))
                else:
                    waits_for = coroutine.throw(raised)
        except StopIteration as ended:
            return ended.value
        finally:
            coroutine.close()


class InterruptibleCall:
    """A function that runs in a thread and can be interrupted there, as far as Python allows.

    The exception arrives between two bytecodes of the thread: a call that blocks in C (a socket, a lock, `time.sleep`)
    returns first.
    """

    def __init__(self, function: Callable[[], Value]) -> None:
        self._function = function
        # Guards `_thread`: an exception must never be aimed at a thread that has gone on to something else.
        self._lock = threading.Lock()
        self._thread: int | None = None

    def __call__(self) -> Value:
        try:
            with self._lock:
                self._thread = threading.get_ident()
            return self._function()
        finally:
            with self._lock:
                if self._thread is not None:
                    _raise_in(self._thread, None)  # what was asked for and has not arrived is withdrawn
                self._thread = None

    def interrupt(self) -> None:
        """Raise SoftTimeLimitExceeded in the thread. Does nothing when the function has ended."""
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, SoftTimeLimitExceeded)


def _raise_in(thread: int, exc: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if exc is None else ctypes.py_object(exc))


def lower(own: float | None, senders: float | None) -> float | None:
    """Return the limit in seconds that holds: what a sender asks for can only lower the task's own.

    0 means that there is none, as in Celery.
    """
    limits = [limit for limit in (own, senders) if limit]
    return min(limits) if limits else None
