"""Sends what follows from conclusions: opens chords, publishes messages. While a server is away, it waits."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import anyio

from asyncq.driver import Broker, ChordOpening, Publication
from asyncq.errors import BackendError, BrokerConnectionError, BrokerError, BrokerFull, PublishError
from asyncq.worker._backoff import Backoff
from asyncq.worker._chords import ChordKeeper
from asyncq.worker._conclusion import Conclusion
from asyncq.worker._maintenance import Maintenance
from asyncq.worker._sequel import Batch

logger = logging.getLogger(__name__)

#: A message, and what it follows from.
Message: TypeAlias = tuple[Conclusion, Publication]

#: A conclusion of which something is refused for good, and why.
Refusal: TypeAlias = tuple[Conclusion, Exception]

#: Messages that go to the broker in one call.
_MOST_AT_ONCE = 1000


class Outgoing:
    """One worker's. Nothing is sent for conclusions that are lost, which `confirm` finds out and marks."""

    def __init__(
        self,
        broker: Broker,
        chords: ChordKeeper | None,
        maintenance: Maintenance,
        *,
        confirm: Callable[[Sequence[Conclusion]], Awaitable[None]],
        dice: random.Random,
    ) -> None:
        self._broker = broker
        self._chords = chords
        self._maintenance = maintenance
        self._confirm = confirm
        self._backoff = Backoff(dice)

    async def publish(self, messages: Sequence[Message]) -> list[Refusal]:
        """Publish messages; return what the broker refuses."""
        refusals: list[Refusal] = []
        for first in range(0, len(messages), _MOST_AT_ONCE):
            refusals += await self._publish(messages[first : first + _MOST_AT_ONCE])
        return refusals

    async def send(self, batches: Sequence[tuple[Conclusion, Batch]]) -> list[Refusal]:
        """Open chords, then publish; of a conclusion whose chords are refused, nothing is published."""
        refusals = await self._open([(c, each) for c, batch in batches for each in batch.openings])
        refused = {id(conclusion) for conclusion, _ in refusals}
        messages = [(c, each) for c, batch in batches if id(c) not in refused for each in batch.messages]
        return refusals + await self.publish(messages)

    async def send_while_made(self, conclusion: Conclusion, batches: Iterable[Batch]) -> list[Refusal]:
        """The same for batches that are made one by one; it takes long enough for a lease to end."""
        making = iter(batches)
        while not conclusion.lost:
            try:
                batch = next(making, None)
            except Exception as error:  # noqa: BLE001 - told as its failure: what can't be made ends no worker
                return [(conclusion, error)]
            if batch is None:
                break
            await asyncio.sleep(0)  # a broker in memory lets nobody else have a turn
            await self._confirm([conclusion])
            if refusals := await self.send([(conclusion, batch)]):
                return refusals
        return []

    async def _publish(self, messages: Sequence[Message]) -> list[Refusal]:
        while messages := [(c, publication) for c, publication in messages if not c.lost]:
            try:
                await self._broker.publish([publication for _, publication in messages])
            except (BrokerConnectionError, BrokerFull) as error:
                if not self._backoff.failing:
                    logger.warning("%d messages wait for the broker: %s", len(messages), error)
                await anyio.sleep(self._backoff.next_delay())
                await self._confirm([conclusion for conclusion, _ in messages])
            except PublishError as error:
                return [(messages[position][0], reason) for position, reason in error.failures.items()]
            except BrokerError as error:
                return [(conclusion, error) for conclusion, _ in messages]
            else:
                self._backoff.reset()
                for _, publication in messages:
                    if publication.not_before is not None:
                        self._maintenance.due(publication.not_before)
                break
        return []

    async def _open(self, openings: Sequence[tuple[Conclusion, ChordOpening]]) -> list[Refusal]:
        if not openings or self._chords is None:
            return []
        try:
            await self._chords.open([opening for _, opening in openings])
        except BackendError as error:
            if len(openings) == 1:
                return [(openings[0][0], error)]
            found = [await self._open([each]) for each in openings]
            return [each for refusals in found for each in refusals]
        return []
