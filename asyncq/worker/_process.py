"""What runs in a process of the worker's: one call at a time, until it is killed."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import wait
from operator import attrgetter
from types import FrameType
from typing import Any, Protocol

from asyncq._logs import LogSettings
from asyncq.errors import EncodeError, RemoteTaskError, SoftTimeLimitExceeded

# `Any` below: arguments and results of the user's functions.

#: Of prctl(2): the signal that the kernel sends when the parent has died.
_PR_SET_PDEATHSIG = 1

#: Bytes of the number that stands before each pickle.
SIZE = 8


def serve(connection: socket.socket, logs: LogSettings | None) -> None:
    """Read a pickled call, make it, answer by the pickle of `(value, None)` or `(None, exception)`; and again.

    It logs as the worker does, where `asyncq worker` has set that up: by `logs`, before it imports code of the user's.
    Ends when the other end closes. Pickle is safe here: both ends are of one worker.
    """
    faulthandler.enable()  # says where a segmentation fault stood
    _die_with_parent()
    if logs is not None:
        logs.apply()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Who stops a service may signal all of its processes; the worker decides. No SIG_IGN: programs that a task
        # starts would inherit it.
        signal.signal(number, _carry_on)
    with connection, connection.makefile("rwb") as stream:
        while (request := _read(stream)) is not None:
            answer = _answer(request)
            stream.write(len(answer).to_bytes(SIZE, "big"))
            stream.write(answer)
            stream.flush()


def call_in_process(
    module: str, qualname: str, args: Sequence[Any], kwargs: Mapping[str, Any], soft_time_limit: float | None
) -> Any:
    """Import the task's module, and call its function.

    A soft limit is an alarm: the process belongs to this one call, and the call has its main thread.
    """
    function = partial(_function(module, qualname), *args, **kwargs)
    try:
        return function() if soft_time_limit is None else _within(soft_time_limit, function)
    except BaseException as exc:
        note_traceback(exc)
        raise


def note_traceback(exc: BaseException) -> None:
    """A traceback stays behind when its exception crosses to the worker; a note goes with it."""
    exc.add_note("".join(traceback.format_tb(exc.__traceback__)))


def why_not(value: Any) -> str | None:
    """Why something can't cross to the worker; None when it can."""
    try:
        # Both ways: many exceptions can be pickled, and not be made again.
        pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    except Exception as exc:  # noqa: BLE001 - constructors and `__reduce__` of the user's may raise anything
        return _text_of(exc) or type(exc).__name__
    return None


def portable(exc: BaseException) -> BaseException:
    """The exception, or one that tells of it where it can't cross to the worker."""
    if why_not(exc) is None:
        return exc
    kind = type(exc)
    stand_in = RemoteTaskError(f"{kind.__module__}.{kind.__qualname__}", _text_of(exc))
    for note in getattr(exc, "__notes__", ()):
        stand_in.add_note(note)
    return stand_in


def named(module: str, qualname: str) -> Any:
    """What stands under a name. Raises ImportError, AttributeError, and what the module raises."""
    return attrgetter(qualname)(sys.modules.get(module) or importlib.import_module(module))


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _read(stream: _Readable) -> bytes | None:
    size = stream.read(SIZE)
    return stream.read(int.from_bytes(size, "big")) if len(size) == SIZE else None


def _answer(request: bytes) -> bytes:
    try:
        function, args = pickle.loads(request)  # noqa: S301 - our own
        value = function(*args)
    except BaseException as exc:  # noqa: BLE001 - the worker gets it, whatever it is
        return pickle.dumps((None, portable(exc)))
    try:
        return pickle.dumps((value, None))
    except Exception as exc:  # noqa: BLE001 - as above
        return pickle.dumps((None, EncodeError(f"what the task returned can't leave its process: {_text_of(exc)}")))


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - a `__str__` of the user's
        return ""


def _carry_on(_signal: int, _frame: FrameType | None) -> None:
    """Nothing to do."""


def _die_with_parent() -> None:
    """Don't outlive the worker: nobody would hear the answer, or end what never ends."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()
    if sys.platform == "linux":  # also from a task that lets no other thread run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _within(soft_time_limit: float, function: Callable[[], Any]) -> Any:

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded(soft_time_limit)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, soft_time_limit)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _function(module: str, qualname: str) -> Callable[..., Any]:
    found = named(module, qualname)
    # What stands under the function's name is the task that the decorator made of it.
    definition = getattr(found, "definition", None)
    return found if definition is None else definition.fn
