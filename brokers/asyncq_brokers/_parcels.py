"""What brokers that store kombu's envelopes have in common: priority steps, and messages made ready to store."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence

from msgspec import Struct

from asyncq.driver import Publication
from asyncq.errors import BrokerError, EncodeError
from asyncq.protocol import WireMessage, encode_envelope

#: kombu's default steps; a message waits in the highest that its priority reaches, and 0 is served first
#: (redis.md, section 3).
PRIORITY_STEPS = (0, 3, 6, 9)


class Parcel(Struct, frozen=True):
    """One message as a store keeps it."""

    queue: str
    step: int
    content: bytes
    not_before: float | None = None


def tag_source(new_id: Callable[[], str]) -> Callable[[], str]:
    """A source of unique tags that costs 0.1 µs a tag, where a UUID of its own costs 2."""
    prefix = new_id()
    numbers = itertools.count(1)
    return lambda: f"{prefix}.{next(numbers)}"


def priority_step(priority: int | None) -> int:
    """The step that a priority number waits in; the number itself travels on unchanged."""
    number = priority or 0
    return next((step for step in reversed(PRIORITY_STEPS) if step <= number), PRIORITY_STEPS[0])


def pack(
    publications: Sequence[Publication], new_tag: Callable[[], str], *, max_bytes: int = sys.maxsize
) -> tuple[list[Parcel], dict[int, Exception]]:
    """Encode a batch. The second value tells which positions cannot be sent, and why.

    `max_bytes` is the broker's own limit; the app's was applied before.
    """
    parcels: list[Parcel] = []
    failures: dict[int, Exception] = {}
    for position, publication in enumerate(publications):
        message, priority = publication.message, None
        if isinstance(message, bytes):
            content = message
        else:
            priority = message.properties.priority
            try:
                content = encode_envelope(
                    message,
                    routing_key=publication.queue if publication.routing_key is None else publication.routing_key,
                    exchange=publication.exchange,
                    delivery_tag=new_tag(),
                )
            except EncodeError as error:
                failures[position] = error
                continue
        if len(content) > max_bytes:
            failures[position] = BrokerError(f"the message has {len(content):,} bytes, the broker takes {max_bytes:,}")
            continue
        parcels.append(Parcel(publication.queue, priority_step(priority), content, publication.not_before))
    return parcels, failures


def dead_queue(queue: str) -> str:
    """Where the dead letters of a queue stand."""
    return f"{queue}.dead"


def pack_letter(letter: WireMessage, queue: str, new_tag: Callable[[], str]) -> Parcel:
    """A dead letter of the queue, as an ordinary message of its dead queue."""
    name = dead_queue(queue)
    content = encode_envelope(letter, routing_key=name, delivery_tag=new_tag())
    return Parcel(name, priority_step(letter.properties.priority), content)
