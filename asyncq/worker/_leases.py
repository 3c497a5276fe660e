"""Keeps the leases of what the worker holds, and knows which of them were lost."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence

import anyio

from asyncq.driver import Clock, Consumer, Delivery
from asyncq.errors import BrokerError
from asyncq.worker._backoff import Backoff

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Extends leases while their tasks run: a lease is kept alive, not guessed.

    A delivery counts as confirmed when it was taken or extended less than half a lease ago, by the monotonic clock. An
    older one is confirmed again before it is started and before its outcome is stored: the worker may have slept
    (SIGSTOP, a closed lid) while somebody else took the task over.
    """

    def __init__(self, consumer: Consumer, clock: Clock, dice: random.Random, lease: float) -> None:
        self._consumer = consumer
        self._backoff = Backoff(dice)
        self._clock = clock
        self._lease = lease
        # In the order of confirmation, so that the oldest stand first.
        self._held: dict[str, tuple[float, Delivery]] = {}
        #: Bytes of the messages that are held.
        self.held_bytes = 0

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Keep these from now on."""
        for delivery in deliveries:
            self._held[delivery.tag] = (delivery.asked_at, delivery)
            self.held_bytes += _size(delivery)

    def drop(self, delivery: Delivery) -> None:
        """Keep it no longer: it is settled, or lost."""
        if self._held.pop(delivery.tag, None) is not None:
            self.held_bytes -= _size(delivery)

    @property
    def held(self) -> int:
        """How many deliveries are neither settled nor lost."""
        return len(self._held)

    @property
    def deliveries(self) -> list[Delivery]:
        """What is held, oldest confirmation first."""
        return [delivery for _, delivery in self._held.values()]

    def is_confirmed(self, delivery: Delivery) -> bool:
        held = self._held.get(delivery.tag)
        return held is not None and self._clock.monotonic() - held[0] < self._lease / 2

    def unconfirmed(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those of many that are not confirmed: the clock is asked once for all."""
        held, limit = self._held, self._clock.monotonic() - self._lease / 2
        return [each for each in deliveries if (known := held.get(each.tag)) is None or known[0] <= limit]

    def end_of(self, delivery: Delivery) -> float:
        """The monotonic time before which nobody else can have it, as known now."""
        held = self._held.get(delivery.tag)
        return 0.0 if held is None else held[0] + self._lease

    def is_over(self, end: float) -> bool:
        """Whether such a time has come."""
        return self._clock.monotonic() >= end

    async def confirm(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Extend these now, however long the broker is away; return those that are lost."""
        while True:
            try:
                lost = await self._extend(deliveries)
            except BrokerError as error:
                if not self._backoff.failing:
                    logger.warning("%d deliveries wait until their leases are confirmed: %s", len(deliveries), error)
                await anyio.sleep(self._backoff.next_delay())
            else:
                self._backoff.reset()
                return lost

    async def _extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        started = self._clock.monotonic()
        lost = await self._consumer.extend(deliveries)
        gone = {delivery.tag for delivery in lost}
        for delivery in deliveries:
            if delivery.tag in gone:
                self.drop(delivery)
            elif self._held.pop(delivery.tag, None) is not None:  # else it was settled meanwhile
                self._held[delivery.tag] = (started, delivery)
        return lost

    async def run(self) -> None:
        """Extend what is older than a third of the lease, for ever."""
        pause = self._lease / 6
        while True:
            await anyio.sleep(pause)
            due = self._older_than(self._lease / 3)
            if not due:
                continue
            try:
                lost = await self._extend(due)
            except BrokerError as error:
                # Tried again soon. What can't be extended in time is confirmed before it is stored, so no harm is done.
                logger.warning("Leases of %d deliveries could not be extended: %s", len(due), error)
                continue
            for delivery in lost:
                logger.warning(
                    "The lease of a delivery from %s was lost: somebody else may run it as well",
                    delivery.queue,
                    extra={"queue": delivery.queue, "delivery_tag": delivery.tag},
                )

    def _older_than(self, age: float) -> list[Delivery]:
        limit = self._clock.monotonic() - age
        due: list[Delivery] = []
        for confirmed, delivery in self._held.values():
            if confirmed > limit:
                break
            due.append(delivery)
        return due


def _size(delivery: Delivery) -> int:
    content = delivery.content
    return len(content) if isinstance(content, bytes) else len(content.body)
