"""Honours revocations: before a task runs, and while it runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import anyio

from asyncq._revoking import Revocation, Revocations
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._backoff import Backoff
from asyncq.worker._flow import Flow

logger = logging.getLogger(__name__)

#: Seconds between two looks for revocations of what is held already.
INTERVAL = 1.0

#: Seconds that a batch waits for what is new. To wait for as long as it takes cost, at a latency of a second, three
#: quarters of the throughput, and three seconds until a task began (measured).
PATIENCE = 0.25


class Revoker:
    """Knows what is revoked. Looked at with each batch, and now and then while anything is held."""

    def __init__(
        self, revocations: Revocations, flow: Flow, dice: random.Random, *, interval: float | None = None
    ) -> None:
        """`interval` is in seconds, where it isn't the usual one; `math.inf` leaves such looks to others (`heed`)."""
        self._revocations = revocations
        self._interval = INTERVAL if interval is None else interval
        self._flow = flow
        self._backoff = Backoff(dice)
        #: Something new was read, by whomever.
        self._news = asyncio.Event()
        #: Nothing was read yet.
        self._ignorant = True
        #: The last look took longer than a batch waits.
        self._slow = False

    def revocation_of(self, task_id: str) -> Revocation | None:
        return self._revocations.get(task_id)

    async def look(self) -> None:
        """Read what is new before a batch is admitted. While the store is away or slow, what is known counts.

        Only what was revoked before this worker came is waited for, however long it takes.
        """
        if self._ignorant:
            await self._refresh()
        elif not (self._backoff.failing or self._slow):  # otherwise `run` asks, and no task is held up by that
            with anyio.move_on_after(PATIENCE) as scope:
                await self._refresh()
            self._slow = scope.cancelled_caught

    async def heed(self, counted: bytes | None) -> None:
        """Somebody else has looked at the counter of revocations: read them, if there are new ones."""
        if self._backoff.failing or self._slow or not self._revocations.is_known(counted):
            began = anyio.current_time()
            await self._refresh()
            self._slow = anyio.current_time() - began > PATIENCE

    async def run(self, on_news: Callable[[], None]) -> None:
        """Call `on_news` whenever there is something new: it ends what runs."""
        pause = self._interval
        while True:
            with anyio.move_on_after(pause):
                await self._news.wait()
            if self._news.is_set():
                self._news.clear()
                on_news()
            elif not self._flow.idle or self._backoff.failing or self._slow:
                # Where nothing is held, the next batch looks: a look costs money on some servers.
                began = anyio.current_time()
                pause = await self._refresh()
                self._slow = anyio.current_time() - began > PATIENCE

    async def _refresh(self) -> float:
        """Read what is new; return the seconds until the next look is due."""
        try:
            if await self._revocations.refresh():
                self._news.set()
        except (BrokerError, BackendError) as error:
            if not self._backoff.failing:
                logger.warning("Revocations can't be read, tasks run without: %s", error)
            return max(self._interval, self._backoff.next_delay())
        finally:
            self._ignorant = False
        if self._backoff.reset():
            logger.info("Revocations can be read again")
        return self._interval
