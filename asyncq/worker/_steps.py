"""Drives the coroutine of a task, step by step: to say whose code runs, and to keep its soft limit.

Only tasks that need one of the two are driven; it takes a quarter of a microsecond.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol, Self

from asyncq.errors import SoftTimeLimitExceeded

# `Any` below: what a coroutine yields, is sent and returns.


class InFlight(Protocol):
    """A task that stands in the flight table."""

    #: Its place there; 0 for none, also when it has left the table and goes on.
    slot: int


#: Where the mark goes that nobody reads.
_NOWHERE = memoryview(bytearray(4)).cast("I")


@types.coroutine
def steps(
    coroutine: Coroutine[Any, Any, Any],
    flight: InFlight,
    on_loop: memoryview[int] | None = None,
    translate: Callable[[BaseException], BaseException] | None = None,
) -> Generator[Any, Any, Any]:
    """Await a coroutine; while a step of it runs, its slot stands in `on_loop[0]`.

    What is thrown in goes through `translate` first. Nothing else differs from awaiting the coroutine itself.
    """
    mark = _NOWHERE if on_loop is None else on_loop
    mark[0] = flight.slot
    try:
        waits_for = coroutine.send(None)
        while True:
            mark[0] = 0
            value, raised = None, None
            try:
                value = yield waits_for
            except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                raised = exc
            mark[0] = flight.slot
            # Thrown from here and not from the handler above: what Python handles at that moment would become the
            # context of whatever is raised inside, and anyio reads contexts to tell its cancellations from others.
            if raised is None:
                waits_for = coroutine.send(value)
            else:
                waits_for = coroutine.throw(raised if translate is None else translate(raised))
    except StopIteration as ended:
        return ended.value
    finally:
        mark[0] = 0


class SoftLimit:
    """After `limit` seconds SoftTimeLimitExceeded is raised inside the task's coroutine, where it stands, once.

    The one cancellation that it asks for is turned into that exception on its way in; every other one passes as it is.
    The exception is a cancellation to asyncio (see its class), so that task groups and time-outs between here and the
    place where the coroutine waits cancel their children.
    """

    __slots__ = ("_asked", "_limit", "_task", "_timer")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._asked = False

    def __enter__(self) -> Self:
        """Raises RuntimeError outside of an asyncio task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a soft limit holds for code of an asyncio task")
        self._task: asyncio.Task[Any] = task
        self._timer = asyncio.get_running_loop().call_later(self._limit, self._ask)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def translate(self, raised: BaseException) -> BaseException:
        """What is thrown in instead of `raised`."""
        if self._asked and isinstance(raised, asyncio.CancelledError):
            self._asked = False
            self._task.uncancel()
            return SoftTimeLimitExceeded(self._limit)
        return raised

    def _ask(self) -> None:
        self._asked = True
        self._task.cancel()
