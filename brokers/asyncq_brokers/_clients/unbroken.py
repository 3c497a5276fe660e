"""Steps that must not end half-way, whoever is cancelled while waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Unbroken"]

_T = TypeVar("_T")


class Unbroken:
    """Runs one coroutine at a time, each to its end. They have to be bounded in time by themselves."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    @property
    def busy(self) -> bool:
        """Something runs."""
        return self._task is not None

    async def run(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run it when all before it have ended, and return its result.

        A caller that is cancelled before it began takes it along; one that is cancelled later leaves it running.
        """
        while self._task is not None:
            await asyncio.wait([self._task])
        task: asyncio.Task[_T] = asyncio.create_task(make())
        self._task = task
        task.add_done_callback(self._ended)
        await asyncio.wait([task])
        return task.result()

    async def finish(self) -> None:
        """Wait until nothing runs."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # who waited for it may have gone
