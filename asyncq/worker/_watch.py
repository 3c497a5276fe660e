"""Looks after the event loop: its beat, its lag, and who blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import math
import os
import selectors
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, NamedTuple, Self

from asyncq.driver import Clock
from asyncq.worker._attempt import Attempt
from asyncq.worker._flow import WorkerStats

logger = logging.getLogger(__name__)

#: Seconds between two beats of the loop.
_BEAT = 0.25

#: Seconds that a beat may be late before it is counted.
_LAG = 0.1

#: Seconds of silence from which on it is told who blocks the loop, and how often the thread looks.
_SILENCE, _LOOK = 1.0, 0.5

#: Descriptor that the interpreter's own dumps go to: stderr, whatever `sys.stderr` is by then.
_STDERR = 2

#: Asked for the run whose code an asyncio task executes.
Culprit = Callable[[asyncio.Task[Any]], Attempt | None]


class _Control(NamedTuple):
    """The way by which a supervisor speaks, and what holds when it speaks no more."""

    descriptor: int
    obey: Callable[[bool], None]
    #: Seconds.
    stall_timeout: float
    #: Seconds.
    patience: float


class LoopWatch:
    """Watches one event loop: from inside, by a timer, and from outside, by a thread.

    The timer measures how late it is. The thread sees the timer stand still, and tells the log what the loop's thread
    is doing; it needs the interpreter for that, so that a call which holds it is told of when it has ended. In a
    process that has a supervisor the thread also hears what that says, even while the loop is blocked.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        stats: WorkerStats,
        culprit: Culprit,
        beat: Callable[[], None] | None = None,
        on_turn: Callable[[], None] | None = None,
        suspect: Callable[[Attempt], None] | None = None,
        watchdog: float | None = None,
    ) -> None:
        """`beat` is called at each beat of the loop; `on_turn` (in the thread) at each turn of the thread, `suspect`
        (in the thread) with who blocks the loop.

        With `watchdog` the process ends itself, with the stacks of all threads on stderr, when the loop is blocked for
        so many seconds.
        """
        self._clock = clock
        self._stats = stats
        self._culprit = culprit
        self._beat = beat
        self._on_turn = on_turn
        self._suspect = suspect
        self._watchdog = watchdog
        self._beats = 0
        self._control: _Control | None = None
        #: Monotonic seconds at which a process whose supervisor has died ends, whatever it does.
        self._end_at = math.inf
        #: Monotonic seconds of the last beat; the last one that was told of as the beginning of a silence.
        self._turned_at = self._told_of = 0.0
        #: Monotonic seconds of the thread's last turn.
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="asyncq watch", daemon=True)

    def listen(self, descriptor: int, obey: Callable[[bool], None], *, stall_timeout: float, patience: float) -> None:
        """Hear a supervisor: `obey` is called on the loop with False for "stop", with True for "stop now".

        When the supervisor dies, this takes its place: it ends the process when the loop is blocked for `stall_timeout`
        seconds, and when the end takes longer than `patience`.
        """
        self._control = _Control(descriptor, obey, stall_timeout, patience)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._turned_at = self._clock.monotonic()
        self._turn()
        self._woken, self._wake = os.pipe()
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, error: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._wake)
        self._thread.join()
        os.close(self._woken)
        if self._watchdog is not None:
            faulthandler.cancel_dump_traceback_later()

    # -- on the loop ---------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = self._clock.monotonic()
        silence = now - self._turned_at
        self._turned_at = now
        self._timer = self._loop.call_later(_BEAT, self._turn)
        if silence >= _BEAT + _LAG:
            self._stats.lags += 1
            self._stats.largest_lag = max(self._stats.largest_lag, silence - _BEAT)
            if silence > _SILENCE:
                logger.warning("The event loop turns again: it stood still for %.1f s", silence)
        if self._beat is not None:
            self._beat()
        self._beats += 1
        if self._watchdog is not None and self._beats % 2:  # 50 µs each, measured
            faulthandler.dump_traceback_later(self._watchdog, exit=True, file=_STDERR)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            if self._control is not None:
                selector.register(self._control.descriptor, selectors.EVENT_READ)
            self._looked_at = self._clock.monotonic()
            while self._woken not in (ready := {key.fd for key, _ in selector.select(_LOOK)}):
                try:
                    self._watch_once(selector, ready)
                except Exception:  # without this thread nobody would hear the supervisor
                    with contextlib.suppress(Exception):  # a filter of the user's may be what has failed
                        logger.exception("The watch over the event loop has failed, and goes on")

    def _watch_once(self, selector: selectors.BaseSelector, ready: Collection[int]) -> None:
        now = self._clock.monotonic()
        # Whoever stops this thread (a debugger, SIGSTOP, a call that holds the interpreter) stops the loop as well:
        # that says nothing about what the loop does now.
        was_stopped = now - self._looked_at >= 2 * _LOOK
        self._looked_at = now
        if self._on_turn is not None:
            self._on_turn()
        control = self._control
        if control is not None and control.descriptor in ready:
            words = os.read(control.descriptor, 64)
            if not words:
                selector.unregister(control.descriptor)
                self._end_at = now + control.patience
            self._hear(words, control)
        if now >= self._end_at:
            faulthandler.dump_traceback(file=_STDERR)
            os._exit(1)
        if not was_stopped:
            self._look(now)

    def _hear(self, words: bytes, control: _Control) -> None:
        """Do what the supervisor says; it says nothing when it has died."""
        for word in words or b"T":
            with contextlib.suppress(RuntimeError):  # the loop was closed: there is nothing left to stop
                self._loop.call_soon_threadsafe(control.obey, word == ord("N"))
        if not words:
            faulthandler.dump_traceback_later(control.stall_timeout, exit=True, file=_STDERR)
            self._watchdog = control.stall_timeout
            logger.warning("The supervisor is gone: finishing what runs, then ending")

    def _look(self, now: float) -> None:
        since = self._turned_at
        if now - since > _SILENCE and self._told_of != since:
            self._told_of = since
            self._tell(now - since)

    def _tell(self, silence: float) -> None:
        task = asyncio.current_task(self._loop)
        attempt = None if task is None else self._culprit(task)
        if attempt is not None:
            who = f"{attempt.message.task}[{attempt.message.id}]"
            if self._suspect is not None:
                self._suspect(attempt)
        else:
            who = "no task of a queue" if task is None else f"the asyncio task {task.get_name()!r}"
        frame = sys._current_frames().get(self._loops_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        fields = {} if attempt is None else attempt.log_fields()
        logger.error("The event loop has been blocked for %.1f s by %s:\n%s", silence, who, stack, extra=fields)
