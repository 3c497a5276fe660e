"""What must not stop half-way: a cancelled caller leaves it alone, and it goes on to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from asyncq.errors import AsyncqError
from asyncq_brokers._clients.error_family import ErrorFamily

__all__ = ["Finisher"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Finisher:
    """Owns the tasks of calls that take several requests. What a cancelled call left is over before the next begins."""

    def __init__(self, errors: ErrorFamily) -> None:
        self._errors = errors
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, once all is over that was left before. Raises a connection error when `close` ended it."""
        task = asyncio.create_task(self._after(set(self._abandoned), coroutine))
        self._running.add(task)
        task.add_done_callback(self._over)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if not task.done():
                self._abandoned.add(task)
            raise
        if task.cancelled():  # nobody has cancelled the caller
            raise self._errors.connection("it was closed while a call was under way")
        return task.result()

    async def close(self, seconds: float) -> None:
        """Wait so long for what runs, then end it."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _after(self, before: set[asyncio.Task[Any]], coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            if before:
                await asyncio.wait(before)
        except asyncio.CancelledError:
            coroutine.close()
            raise
        return await coroutine

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            self._abandoned.discard(task)
            return
        error = task.exception()
        if task in self._abandoned:
            self._abandoned.discard(task)
            if error is not None:
                level = logging.INFO if isinstance(error, AsyncqError) else logging.ERROR
                logger.log(level, "a call whose caller had gone failed: %s", error, exc_info=error)
