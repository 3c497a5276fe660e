"""Messages that are put aside for longer than SQS hides them: sent anew, with their date beside them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from asyncq.driver import Clock
from asyncq.errors import BrokerError, EncodeError
from asyncq.protocol import Properties

from .deliveries import HIDE, Deliveries, Held
from .encoding import eta_of
from .publishing import Parcel, Publisher
from .queues import KnownQueue

__all__ = ["Parker"]

logger = logging.getLogger(__name__)


class Parker:
    """Knows how long a message of one consumer can be hidden, and sends anew what has to stay away for longer."""

    def __init__(self, publisher: Publisher, deliveries: Deliveries, clock: Clock) -> None:
        self._publisher = publisher
        self._deliveries = deliveries
        self._clock = clock

    def hiding(self, held: Held, until: float) -> int:
        """Seconds that the message is hidden for, as long as SQS allows."""
        left = math.ceil(until - self._clock.wall())
        return max(0, min(left, self._longest(held)))

    def outlasts(self, held: Held, until: float) -> bool:
        """Whether it would come back too early, and nothing in it would say so."""
        if until - self._clock.wall() <= self._longest(held):
            return False
        return not any(date is not None and date >= until for date in (held.not_before, eta_of(held.content)))

    async def renew(self, items: Sequence[tuple[Held, float]]) -> list[Held]:
        """Send messages anew that nobody shall receive before a UNIX time each.

        Returns those whose old messages are to be deleted now. The others have no room for a date, and are hidden.
        """
        by_queue: dict[str, list[tuple[Held, float]]] = {}
        for held, until in items:
            if not held.replaced:
                by_queue.setdefault(held.queue.name, []).append((held, until))
        for group in by_queue.values():
            await self._send(group[0][0].queue, group)
        for held, until in items:
            if not held.replaced:
                await self._deliveries.hide([held], [self.hiding(held, until)])
        return [held for held, _ in items if held.replaced]

    async def _send(self, queue: KnownQueue, items: Sequence[tuple[Held, float]]) -> None:
        parcels: list[Parcel] = []
        for position, (held, until) in enumerate(items):
            group = Properties(message_group_id=held.group)
            try:
                parcels.append(self._publisher.parcel(queue, held.content, position, properties=group, until=until))
            except EncodeError as error:
                logger.warning("A message of %s comes back before its time: %s", queue.name, error)
        failures = await self._publisher.send(queue, parcels)
        for parcel in parcels:
            items[parcel.position][0].replaced = parcel.position not in failures
        if failures:
            raise BrokerError(f"{len(failures)} messages can't be put aside: {next(iter(failures.values()))}")

    def _longest(self, held: Held) -> int:
        return min(HIDE, self._deliveries.longest(held))
