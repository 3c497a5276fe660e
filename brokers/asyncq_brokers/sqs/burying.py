"""Dead letters: written first, then the message that they are about is deleted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asyncq.driver import Dead
from asyncq.errors import BrokerError, ConfigurationError, EncodeError
from asyncq_brokers._parcels import dead_queue

from .deliveries import Deliveries, Held
from .publishing import Parcel, Publisher
from .queues import KnownQueue, Queues

__all__ = ["Undertaker"]

logger = logging.getLogger(__name__)


class Undertaker:
    """Writes the dead letters of one consumer."""

    def __init__(self, queues: Queues, publisher: Publisher, deliveries: Deliveries) -> None:
        self._queues = queues
        self._publisher = publisher
        self._deliveries = deliveries

    async def bury(self, burials: Sequence[tuple[Held, Dead]]) -> list[Held]:
        """Write letters. Returns the deliveries whose messages are to be deleted now."""
        by_queue: dict[str, list[tuple[Held, Dead]]] = {}
        finished = [held for held, _ in burials if held.replaced]
        for held, burial in burials:
            if held.replaced or await self._put_off(held, burial):
                continue
            dead = dead_queue(held.queue.name)
            if not self._queues.is_defined(dead):
                self._leave(held, dead)
                continue
            by_queue.setdefault(dead, []).append((held, burial))
        for dead, letters in by_queue.items():
            finished += await self._write(await self._place(dead), letters)
        return finished

    async def _place(self, dead: str) -> KnownQueue:
        try:
            return await self._queues.get(dead)
        except ConfigurationError as error:  # the worker was told when it started, and goes on with the rest
            raise BrokerError(f"dead letters have no place: {error}") from error

    async def _write(self, dead: KnownQueue, letters: Sequence[tuple[Held, Dead]]) -> list[Held]:
        parcels = [self._parcel(dead, held, burial, position) for position, (held, burial) in enumerate(letters)]
        failures = await self._publisher.send(dead, parcels)
        written = [held for position, (held, _) in enumerate(letters) if position not in failures]
        for held in written:
            held.replaced = True
        if failures:
            raise BrokerError(f"{len(failures)} dead letters were refused: {next(iter(failures.values()))}")
        return written

    def _parcel(self, dead: KnownQueue, held: Held, burial: Dead, position: int) -> Parcel:
        # In a FIFO queue whoever holds some letters of a group would hide the others from who looks for them. The
        # message's own group stands in its properties, and has it again when it is replayed.
        letter = burial.letter
        try:
            content = self._publisher.encode(letter, dead.name)
            return self._publisher.parcel(dead, content, position, properties=letter.properties, alone=True)
        except EncodeError as error:
            # It came through SQS, so it fits as it stands; the notice on it does not.
            logger.warning("A dead letter of %s goes without its reason: %s", held.queue.name, error)
            return self._publisher.parcel(dead, held.content, position, properties=letter.properties, alone=True)

    async def _put_off(self, held: Held, burial: Dead) -> bool:
        """Celery's `backoff_policy`: a rejected message comes back instead, later each time (sqs.md, section 6)."""
        predefined = held.queue.predefined
        if predefined is None or burial.letter.headers.get("task") not in predefined.backoff_tasks:
            return False
        seconds = predefined.backoff_policy.get(held.delivery.count or 1)
        if seconds is None:
            self._deliveries.forget(held)  # back when its lease ends
        else:
            await self._deliveries.hide([held], [seconds])
        return True

    def _leave(self, held: Held, dead: str) -> None:
        """The user has listed the queues, and none for dead letters: the queue's own redrive policy has the word."""
        logger.error(
            "A message of %s is dead, and %r is not in predefined_queues: it stays, and comes back until the queue's "
            "redrive policy takes it away",
            held.queue.name,
            dead,
            extra={"queue": held.queue.name, "delivery_tag": held.delivery.tag},
        )
        self._deliveries.forget(held)
