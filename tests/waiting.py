"""Waiting for what no event tells of: a condition, looked at again and again, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

#: Seconds until a test gives up; far above what any wait here takes, since machines stall.
PATIENCE = 20.0
_LOOK = 0.005


async def until(condition: Callable[[], bool | Awaitable[bool]], *, timeout: float = PATIENCE) -> None:
    """Wait until the condition has come true. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            now = condition()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(_LOOK)


class Gate:
    """Opened by one process, waited for by others: a file that is there or not."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def open(self) -> None:
        self.path.touch()

    def wait(self) -> None:
        """Block this thread until the gate is open. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while not self.path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody opened {self.path}")
            time.sleep(_LOOK)

    async def passed(self) -> None:
        """`wait` for a task on the loop."""
        await until(self.path.exists)
