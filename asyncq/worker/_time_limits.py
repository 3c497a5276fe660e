"""The limits of a run: which one holds, and how a call in a thread is told of it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from asyncq.errors import SoftTimeLimitExceeded

#: What the user's function returns: any type.
Value = Any


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
        self._begun = False

    def __call__(self) -> Value:
        try:
            with self._lock:
                self._thread = threading.get_ident()
                self._begun = True
            return self._function()
        finally:
            with self._lock:
                if self._thread is not None:
                    _raise_in(self._thread, None)  # what was asked for and has not arrived is withdrawn
                self._thread = None

    def interrupt(self) -> bool:
        """Raise SoftTimeLimitExceeded in the thread, unless the function has ended. False: it has not begun yet."""
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, SoftTimeLimitExceeded)
            return self._begun


def _raise_in(thread: int, exc: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if exc is None else ctypes.py_object(exc))


def lower(own: float | None, senders: float | None) -> float | None:
    """Return the limit in seconds that holds: what a sender asks for can only lower the task's own.

    0 means that there is none, as in Celery.
    """
    limits = [limit for limit in (own, senders) if limit]
    return min(limits) if limits else None
