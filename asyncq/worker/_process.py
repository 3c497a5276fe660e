"""What runs in the process of an `executor="process"` task."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import FrameType
from typing import Any

from asyncq.errors import SoftTimeLimitExceeded


def call_in_process(
    module: str, qualname: str, args: Sequence[Any], kwargs: Mapping[str, Any], soft_time_limit: float | None
) -> Any:  # whatever the user's function returns
    """Import the task's module, and call its function.

    A soft limit is an alarm: the process belongs to this one call, and the call has its main thread.
    """
    function = partial(_function(module, qualname), *args, **kwargs)
    try:
        return function() if soft_time_limit is None else _within(soft_time_limit, function)
    except BaseException as exc:
        # A traceback stays behind when its exception crosses to the worker; a note goes with it.
        exc.add_note("".join(traceback.format_tb(exc.__traceback__)))
        raise


def _within(soft_time_limit: float, function: Callable[[], Any]) -> Any:  # whatever the user's function returns

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
    found = attrgetter(qualname)(sys.modules.get(module) or importlib.import_module(module))
    # What stands under the function's name is the task that the decorator made of it.
    definition = getattr(found, "definition", None)
    return found if definition is None else definition.fn
