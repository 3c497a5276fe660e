"""Gives back what was pushed to us and nobody asks for, so that others get it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from asyncq.errors import BrokerError

__all__ = ["IdleReturn"]

logger = logging.getLogger(__name__)

#: Seconds that it waits for somebody.
_IDLE = 1.0


class IdleReturn:
    """A clock that is wound while something waits. Owns the task that gives back, and ends with it at `close`."""

    def __init__(self, give_back: Callable[[], Awaitable[None]]) -> None:
        self._give_back = give_back
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def wind(self, *, waits: bool) -> None:
        """Somebody was here: it starts anew while something `waits`, and else stands still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waits and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(_IDLE, self._nobody_asks)

    def start(self) -> None:
        """Something has come: it runs from now, unless it runs already."""
        if self._timer is None:
            self.wind(waits=True)

    async def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self._closed = True
        self.wind(waits=False)
        if self._task is not None:
            await asyncio.wait([self._task])

    def _nobody_asks(self) -> None:
        self._timer = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._give_back()
        except BrokerError as error:
            logger.info("could not give back what was pushed and not begun: %s", error)
