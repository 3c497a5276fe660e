"""Async calls from sync code: a thread with an event loop of its own, started at the first call."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar, TypeVarTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal

from asyncq._fork import forget_in_child

__all__ = ["Portal"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Portal:
    """Runs coroutine functions on its loop while the calling thread waits. Any thread may call, several at once."""

    def __init__(self, name: str, on_close: Callable[[], Awaitable[None]]) -> None:
        """`on_close` runs on the portal's loop before it ends, at the latest when the process exits."""
        self._name = name
        self._on_close = on_close
        self._lock = threading.Lock()
        self._exit = ExitStack()
        self._portal: BlockingPortal | None = None
        forget_in_child(self)

    def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts, instead: str) -> T:
        """Run `function(*args)` and return what it returns.

        Raises RuntimeError in a thread whose event loop runs, since it would stand still; `instead` says what to do
        there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._started().call(function, *args)
        raise RuntimeError(f"an event loop runs in this thread, and this call would block it: use {instead}")

    def close(self) -> None:
        """Close what uses the loop, then end it. The next call starts another."""
        with self._lock:
            if self._portal is not None:
                self._portal = None
                self._exit.close()

    def forget(self) -> list[object]:
        """In a forked child: the thread isn't here, and waiting for it would never end."""
        held: list[object] = [self._portal, self._exit, self._lock]
        self._lock = threading.Lock()
        self._exit = ExitStack()
        self._portal = None
        return held

    def _started(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                portal = self._exit.enter_context(start_blocking_portal("asyncio", name=f"{self._name}-send-sync"))
                self._exit.callback(portal.call, self._on_close)
                atexit.register(self.close)
                self._portal = portal
            return self._portal
