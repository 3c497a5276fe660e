"""Runs the driver's housekeeping on time."""

from __future__ import annotations

import asyncio
import logging
import math
import random

import anyio

from asyncq.driver import Clock, Consumer
from asyncq.errors import BrokerError
from asyncq.worker._backoff import Backoff

logger = logging.getLogger(__name__)


class Maintenance:
    """Calls `Consumer.maintain` when it is due: rescue of expired leases, return of parked messages."""

    def __init__(self, consumer: Consumer, clock: Clock, dice: random.Random) -> None:
        self._consumer = consumer
        self._clock = clock
        self._backoff = Backoff(dice)
        #: Monotonic seconds of the next round; during a round, of the first thing that was announced meanwhile.
        self._next = math.inf
        self._poked = asyncio.Event()

    def due(self, at: float) -> None:
        """Something falls due at `at` (UNIX seconds): be there."""
        when = self._clock.monotonic() + max(0.0, at - self._clock.wall())
        if when < self._next:
            self._next = when
            self._poked.set()

    async def run(self) -> None:
        while True:
            try:
                delay = await self._consumer.maintain()
                self._backoff.reset()
            except BrokerError as error:
                if not self._backoff.failing:
                    logger.warning("Housekeeping waits for the broker: %s", error)
                delay = self._backoff.next_delay()
            await self._sleep(delay)

    async def _sleep(self, delay: float) -> None:
        # What was announced during the round may have been parked after the store had been looked at.
        self._next = min(self._next, self._clock.monotonic() + delay)
        while (left := self._next - self._clock.monotonic()) > 0:
            self._poked.clear()
            with anyio.move_on_after(left):
                await self._poked.wait()
        self._next = math.inf
