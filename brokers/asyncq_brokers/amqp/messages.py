"""What AMQP and asyncq add to a message's headers on its way, and how that is taken off again."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from msgspec import structs

from asyncq.errors import DecodeError
from asyncq.protocol import WireMessage, read_dead_letter
from asyncq_brokers._clients.amqp import Incoming, decode_content

__all__ = ["DEATHS", "key_of", "mark_parked", "mark_redelivered", "outgoing", "read", "unmarked", "until_of"]

#: What RabbitMQ notes when a message leaves a queue by itself. A message that is published with them may be dropped as
#: one that goes in circles (messages.md, section 3).
DEATHS = frozenset(
    f"x-{which}death{what}" for which in ("first-", "last-") for what in ("-exchange", "-queue", "-reason")
) | {"x-death"}

#: A quorum queue's count of deliveries that came back.
_DELIVERY_COUNT = "x-delivery-count"

#: asyncq's own: somebody had it before, though AMQP doesn't know; until when it is parked (UNIX seconds).
_REDELIVERED, _UNTIL = "asyncq-redelivered", "asyncq-until"

#: In place of headers that can't be decoded: AMQP's content header in base64.
_UNREADABLE = "asyncq-unreadable"

_OURS = {_REDELIVERED, _UNTIL, _UNREADABLE}


def read(incoming: Incoming) -> tuple[WireMessage, bool, int | None, float | None]:
    """The message as it was sent; whether it was delivered before; how often, this time included; parked until."""
    try:
        message = decode_content(incoming.header, incoming.body)
    except DecodeError:
        # RabbitMQ reads deeper tables than we do. They are kept as they came; what is left names itself as no task.
        kept = {_UNREADABLE: b64encode(incoming.header).decode()}
        message = WireMessage(incoming.body, kept, content_type="application/data")
    headers = message.headers
    redelivered = bool(headers.pop(_REDELIVERED, False)) or incoming.redelivered
    returned = headers.pop(_DELIVERY_COUNT, None)
    until = headers.pop(_UNTIL, None)
    return (
        message,
        redelivered,
        returned + 1 if isinstance(returned, int) else None,
        until if isinstance(until, float) else None,
    )


def outgoing(message: WireMessage) -> WireMessage:
    """The message without what a former journey left in it."""
    if DEATHS.isdisjoint(message.headers):
        return message
    headers = {name: value for name, value in message.headers.items() if name not in DEATHS}
    return structs.replace(message, headers=headers)


def mark_redelivered(message: WireMessage) -> WireMessage:
    """The message, to be published again and to come out as delivered before."""
    return structs.replace(message, headers={**message.headers, _REDELIVERED: True})


def mark_parked(message: WireMessage, until: float) -> WireMessage:
    """The message as it waits. It has no expiration: a delay queue would drop it, or let it out early."""
    properties = structs.replace(message.properties, expiration=None)
    return structs.replace(message, headers={**message.headers, _UNTIL: until}, properties=properties)


def unmarked(message: WireMessage) -> WireMessage:
    """The message without anything that asyncq has added."""
    came = read_dead_letter(message).content
    if isinstance(came, WireMessage):
        message = came
    headers = {name: value for name, value in message.headers.items() if name not in _OURS}
    return structs.replace(message, headers=headers)


def until_of(message: WireMessage, until: float | None) -> float:
    """UNIX time at which a parked message is due: asyncq's own note, else the task's ETA, else 0."""
    if until is not None:
        return until
    try:
        moment = datetime.fromisoformat(str(message.headers.get("eta")))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def key_of(message: WireMessage, until: float | None = None) -> str:
    """Names a stored message: a digest, since AMQP numbers nothing. Equal messages have equal keys."""
    headers: dict[str, Any] = {name: value for name, value in message.headers.items() if name not in DEATHS}
    properties = structs.astuple(message.properties)
    known = json.dumps([headers, properties, message.content_type, until], default=repr, sort_keys=True)
    return sha256(known.encode("utf-8", "surrogatepass") + message.body).hexdigest()[:32]
