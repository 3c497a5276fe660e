"""Honours revocations: before a task runs, and while it runs."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import anyio

from asyncq._revoking import Revocation, Revocations
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._backoff import Backoff

logger = logging.getLogger(__name__)

#: Seconds between two looks for revocations of what is held already.
INTERVAL = 1.0


class Revoker:
    """Knows what is revoked. `on_news` is called when there is something new, to end what runs or waits."""

    def __init__(self, revocations: Revocations, dice: random.Random) -> None:
        self._revocations = revocations
        self._backoff = Backoff(dice)

    def revocation_of(self, task_id: str) -> Revocation | None:
        return self._revocations.get(task_id)

    async def refresh(self) -> bool:
        """Read what is new. While the store is away, what is known counts: a task that could run is not held up."""
        try:
            news = await self._revocations.refresh()
        except (BrokerError, BackendError) as error:
            if not self._backoff.failing:
                logger.warning("Revocations can't be read, tasks run without: %s", error)
            self._backoff.next_delay()
            return False
        self._backoff.reset()
        return news

    async def run(self, on_news: Callable[[], None]) -> None:
        while True:
            await anyio.sleep(INTERVAL)
            if await self.refresh():
                on_news()
