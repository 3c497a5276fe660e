"""Looks after the event loop: its beat, its lag, and who blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from asyncq.driver import Clock

logger = logging.getLogger(__name__)

#: Seconds between two beats.
BEAT = 0.25


class ControlPipe:
    """Hears what the supervisor says, in a thread: also while the loop is blocked.

    The worker never writes, so that nothing can fill up.
    """

    def __init__(self, descriptor: int, *, stop: Callable[[bool], None], orphaned: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._orphaned = orphaned
        self._thread = threading.Thread(target=self._listen, name="asyncq control", daemon=True)
        self._woken, self._wake = os.pipe()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._wake)
        self._thread.join()
        os.close(self._woken)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._woken in ready:
                    return
                for word in os.read(self._descriptor, 64) or b"\0":
                    if word == 0:
                        self._orphaned()
                        self._tell(False)
                        return
                    self._tell(word == ord("N"))

    def _tell(self, now: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: there is nothing left to stop
            self._loop.call_soon_threadsafe(self._stop, now)


class Pulse:
    """A timer on the loop, several times a second: whoever sees it stand still knows that the loop does."""

    def __init__(self, clock: Clock, *, beat: Callable[[], None]) -> None:
        self._clock = clock
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._turn()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._beat()
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._turn)
