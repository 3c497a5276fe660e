"""Messages on their way out: encoded, checked for size, sent ten at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count

from msgspec import Struct

from asyncq.driver import Environment, Publication
from asyncq.errors import (
    BrokerConnectionError,
    BrokerError,
    BrokerFull,
    ConfigurationError,
    EncodeError,
    PublishError,
)
from asyncq.protocol import Properties, WireMessage, encode_envelope
from asyncq_brokers._clients.aws import together

from .batches import BATCH, Failure, QueueMissing, call_batch
from .encoding import MAX_BYTES, Entry, encode_body, not_before_attribute, read_eta, size_of
from .queues import KnownQueue, Queues

__all__ = ["LONGEST_DELAY", "Parcel", "Publisher"]

#: The longest DelaySeconds that SQS knows.
LONGEST_DELAY = 900

#: Batches of one queue that are sent at the same time. A FIFO queue gets one after the other, in order.
_AT_A_TIME = 8


class Parcel(Struct, frozen=True):
    """One message, ready to be sent."""

    #: Names it in the answer of `Publisher.send`.
    position: int
    entry: Entry
    #: Bytes.
    size: int


class Publisher:
    """Publishes as kombu's producers do, in fewer requests."""

    def __init__(self, queues: Queues, environment: Environment, *, base64: bool) -> None:
        self._queues = queues
        self._environment = environment
        self._base64 = base64
        self._tag_prefix = environment.new_id()
        self._numbers = count()

    async def publish(self, publications: Sequence[Publication]) -> None:
        """`Broker.publish`."""
        failures: dict[int, Exception] = {}
        by_queue: dict[str, list[int]] = {}
        for position, publication in enumerate(publications):
            by_queue.setdefault(publication.queue, []).append(position)
        for name, positions in by_queue.items():
            try:
                queue = await self._queues.get(name)
            except ConfigurationError as error:
                failures.update(dict.fromkeys(positions, error))
                continue
            parcels: list[Parcel] = []
            for position in positions:
                try:
                    parcels.append(self._pack(queue, publications[position], position))
                except EncodeError as error:
                    failures[position] = error
            failures.update(await self.send(queue, parcels))
        if failures:
            raise PublishError(failures)

    async def send(self, queue: KnownQueue, parcels: Sequence[Parcel]) -> dict[int, Exception]:
        """Send to one queue; returns what was refused, by position."""
        failures: dict[int, Exception] = {}
        batches = list(_batches(parcels))
        at_a_time = 1 if queue.fifo else _AT_A_TIME
        for start in range(0, len(batches), at_a_time):
            for answer in await together(self._send(queue, batch) for batch in batches[start : start + at_a_time]):
                failures.update(answer)
        return failures

    async def _send(self, queue: KnownQueue, batch: Sequence[Parcel]) -> dict[int, Exception]:
        entries = [parcel.entry for parcel in batch]
        try:
            refused = await self._call(queue, entries)
        except (BrokerConnectionError, BrokerFull):
            raise
        except (BrokerError, ConfigurationError) as error:
            return {parcel.position: error for parcel in batch}
        return {
            batch[number].position: BrokerError(f"{queue.url} refuses the message: {failure}")
            for number, failure in refused.items()
        }

    async def _call(self, queue: KnownQueue, entries: Sequence[Entry]) -> dict[int, Failure]:
        """Send a batch. A queue that was deleted meanwhile is looked for once more, or made again."""
        try:
            return await self._call_once(queue, entries)
        except QueueMissing:
            self._queues.forget(queue.name)
            return await self._call_once(await self._queues.get(queue.name), entries)

    async def _call_once(self, queue: KnownQueue, entries: Sequence[Entry]) -> dict[int, Failure]:
        method = "send_message_batch"
        # A FIFO queue knows a message that it has had already by its deduplication id.
        return await call_batch(queue.link, self._environment, method, queue.url, entries, harmless=queue.fifo)

    def _pack(self, queue: KnownQueue, publication: Publication, position: int) -> Parcel:
        message, until = publication.message, publication.not_before
        if isinstance(message, bytes):
            return self.parcel(queue, message, position, until=until)
        content = self.encode(message, publication.queue, publication.routing_key, publication.exchange)
        return self.parcel(
            queue,
            content,
            position,
            properties=message.properties,
            until=until,
            eta=read_eta(message.headers.get("eta")),
            first=until is None and _is_first(message),
        )

    def encode(self, message: WireMessage, queue: str, routing_key: str | None = None, exchange: str = "") -> bytes:
        """The message in kombu's envelope. Raises EncodeError."""
        return encode_envelope(
            message,
            routing_key=queue if routing_key is None else routing_key,
            exchange=exchange,
            delivery_tag=f"{self._tag_prefix}-{next(self._numbers):x}",
        )

    def parcel(
        self,
        queue: KnownQueue,
        content: bytes,
        position: int = 0,
        *,
        properties: Properties | None = None,
        until: float | None = None,
        eta: float | None = None,
        first: bool = False,
        alone: bool = False,
    ) -> Parcel:
        """A member of a batch. Raises EncodeError when it is too large.

        `first` says that it is the task's first message, `alone` that in a FIFO queue it stands in nobody's way.
        """
        entry = self._entry(queue, content, until=until, eta=eta)
        self._address(entry, queue, properties or Properties(), first=first)
        if alone and queue.fifo:
            entry["MessageGroupId"] = self._environment.new_id()
        size = size_of(entry)
        if size > MAX_BYTES:
            raise EncodeError(f"the message has {size:,} bytes as SQS counts them; it takes {MAX_BYTES:,}")
        return Parcel(position, entry, size)

    def _entry(self, queue: KnownQueue, content: bytes, *, until: float | None, eta: float | None = None) -> Entry:
        """A member of a SendMessageBatch that nobody receives before `until`, nor, where SQS delays, before `eta`.

        SQS's own delay ends after 15 minutes, and FIFO queues have none for single messages: the consumer that receives
        the message then hides it for what is left, an ETA by itself, and `until` by an attribute of ours.
        """
        entry: Entry = {"MessageBody": encode_body(content, base64=self._base64)}
        date = eta if until is None else until
        if date is None:
            return entry
        left = math.ceil(date - self._environment.clock.wall())
        if left > 0 and not queue.fifo:
            entry["DelaySeconds"] = min(left, LONGEST_DELAY)
        if until is not None and (left > LONGEST_DELAY or queue.fifo):
            entry["MessageAttributes"] = not_before_attribute(until)
        return entry

    def _address(self, entry: Entry, queue: KnownQueue, properties: Properties, *, first: bool) -> None:
        """Add the message's group, which FIFO queues need and fair queues use, and what tells it from its copies."""
        if properties.message_group_id is not None or queue.fifo:
            entry["MessageGroupId"] = properties.message_group_id or "default"
        if queue.fifo:
            # SQS drops what has the id of the last five minutes: a retry, or a second life, needs one of its own.
            own = properties.message_deduplication_id if first else None
            entry["MessageDeduplicationId"] = own or self._environment.new_id()


def _is_first(message: WireMessage) -> bool:
    """Whether it is the task's first message: no retry, and no dead letter."""
    return not message.headers.get("retries") and "asyncq-dead" not in message.headers


def _batches(parcels: Sequence[Parcel]) -> Iterator[list[Parcel]]:
    """Ten at a time, and no more bytes than SQS takes at once."""
    batch: list[Parcel] = []
    size = 0
    for parcel in parcels:
        if batch and (len(batch) == BATCH or size + parcel.size > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(parcel)
        size += parcel.size
    if batch:
        yield batch
