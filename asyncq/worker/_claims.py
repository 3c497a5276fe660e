"""Unique tasks in the worker: their claims are checked once more at the start, and given back."""

from __future__ import annotations

import asyncio
import logging
import random

import anyio

from asyncq._unique import CLAIM_TTL, claim_of_header
from asyncq.driver import Coordination, Fact
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._attempt import Attempt
from asyncq.worker._backoff import Backoff
from asyncq.worker._flow import Flow

logger = logging.getLogger(__name__)


#: Claims that are given back side by side.
_AT_ONCE = 100


class Claims:
    """Gives claims back: that of a `queued` scope at the start, that of a `running` one at the end."""

    def __init__(self, coordination: Coordination, flow: Flow, dice: random.Random) -> None:
        self._coordination = coordination
        self._flow = flow
        self._backoff = Backoff(dice)
        self._released: list[tuple[str, bytes]] = []
        self._wanted = asyncio.Event()

    async def begin(self, attempt: Attempt) -> bool:
        """Return False when another task has the claim by now, and this one must not run.

        While the store is away, what was settled at the send counts.
        """
        claim = claim_of_header(attempt.notes())
        if claim is None:
            return True
        key, scope = claim
        own = attempt.message.id.encode()
        if scope == "queued":
            self._release(key, own)
            return True
        fact = Fact(key=key, value=own, ttl=CLAIM_TTL)
        try:
            if not (await self._coordination.put([fact], if_absent=True))[0]:
                [holder] = await self._coordination.get([key])
                if holder not in {None, own}:
                    return False
                await self._coordination.put([fact])  # it is ours: a retry or a redelivery, kept for another while
        except (BrokerError, BackendError) as error:
            logger.warning("The claim of %s could not be checked: %s", attempt, error)
        return True

    def end(self, attempt: Attempt) -> None:
        """The task has ended for good: others may be sent."""
        claim = claim_of_header(attempt.notes())
        # That of a `queued` scope went back when it started.
        if claim is not None and (claim[1] == "running" or attempt.started_at is None):
            self._release(claim[0], attempt.message.id.encode())

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._released:
                batch = self._released[:_AT_ONCE]
                try:
                    await asyncio.gather(*[self._coordination.delete([key], if_value=own) for key, own in batch])
                except (BrokerError, BackendError) as error:
                    if not self._backoff.failing:
                        logger.warning("Claims of unique tasks wait to be given back: %s", error)
                    await anyio.sleep(self._backoff.next_delay())
                else:
                    self._backoff.reset()
                    del self._released[: len(batch)]
            self._flow.notify()

    @property
    def busy(self) -> bool:
        """Some are not given back yet."""
        return bool(self._released)

    def _release(self, key: str, own: bytes) -> None:
        self._released.append((key, own))
        self._wanted.set()
