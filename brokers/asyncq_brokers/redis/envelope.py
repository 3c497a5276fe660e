"""What the driver must know of kombu's JSON without taking a message apart: is it JSON, its priority, its marks.

Messages keep their bytes wherever they can: decoding and encoding again would change big integers, floats and the order
of keys. Only a mark makes a new text.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec

__all__ = [
    "mark_redelivered",
    "priority_of",
    "readable",
    "split_foreign_record",
    "split_record",
    "was_redelivered",
]

_MARK_NAME = b'"redelivered"'
_MARKS = (b'"redelivered": true', b'"redelivered":true')

#: Checks the syntax and makes nothing.
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


def readable(raw: bytes) -> bool:
    """True when Celery's sweep can parse a record with this message inside."""
    try:
        _check_json(raw)
        return raw.isascii() or bool(raw.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _load(raw) is not None  # NaN and lone surrogates are JSON to Python


def was_redelivered(raw: bytes) -> bool:
    """True when the message says that somebody had it before. In JSON the mark can't stand inside a string."""
    return _MARK_NAME in raw and any(mark in raw for mark in _MARKS)  # most messages end with the first search


def mark_redelivered(raw: bytes) -> bytes:
    """The message with both of kombu's marks; as it is where there is no place for them."""
    return _dump_marked(_load(raw)) or raw


def priority_of(raw: bytes) -> int:
    """The message's priority; 0 where it has none that could be read."""
    return _priority(_load(raw))


def split_record(record: bytes) -> tuple[bytes, str]:
    """Message and queue of a record that asyncq wrote. The queue is a JSON string: no `,"",` can stand in it."""
    raw, _, queue = record[1:-1].rpartition(b',"",')
    return raw, json.loads(queue)


def split_foreign_record(record: bytes) -> tuple[bytes, int, str, str] | None:
    """Message (marked), its priority, exchange and routing key of a record that anybody wrote; None if it is none."""
    parts = _load(record)
    if not isinstance(parts, list) or len(cast("list[Any]", parts)) != 3:
        return None
    message, exchange, routing_key = cast("list[Any]", parts)
    if not (isinstance(message, dict) and isinstance(exchange, str) and isinstance(routing_key, str)):
        return None
    envelope = cast("dict[str, Any]", message)
    return _dump_marked(envelope) or json.dumps(envelope).encode(), _priority(envelope), exchange, routing_key


def _load(raw: bytes) -> Any:  # Any: a stranger's JSON
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _field(value: Any, name: str) -> Any:  # Any: a stranger's JSON
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _dump_marked(envelope: Any) -> bytes | None:  # Any: a stranger's JSON
    headers = _field(envelope, "headers")
    delivery_info = _field(_field(envelope, "properties"), "delivery_info")
    if not isinstance(headers, dict) or not isinstance(delivery_info, dict):
        return None
    headers["redelivered"] = True
    delivery_info["redelivered"] = True
    return json.dumps(envelope).encode()


def _priority(envelope: Any) -> int:  # Any: a stranger's JSON
    priority = _field(_field(envelope, "properties"), "priority")
    return priority if isinstance(priority, int) else 0
