"""A message as SQS carries it: kombu's envelope as text, and what stands beside it (sqs.md, section 4)."""

from __future__ import annotations

import math
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

import msgspec

__all__ = [
    "MAX_BYTES",
    "NOT_BEFORE",
    "Entry",
    "decode_body",
    "due_date",
    "encode_body",
    "eta_of",
    "not_before_attribute",
    "read_eta",
    "size_of",
]

#: Bytes of one message, and of all messages of a batch: body and attributes.
MAX_BYTES = 1_048_576

#: The attribute that says until when (UNIX seconds) a message is parked, where SQS's own delay doesn't reach that far.
NOT_BEFORE = "asyncq.not_before"

#: What stands for no bytes at all, since SQS takes no empty message. It is no base64 that anybody would write.
_NOTHING = "===="

#: Characters that SQS refuses: those that XML has not.
_NO_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: An entry of a batch call, or a message in an answer: JSON.
Entry: TypeAlias = dict[str, Any]


class _Headers(msgspec.Struct):
    eta: str | None = None


class _Envelope(msgspec.Struct):
    headers: _Headers = msgspec.field(default_factory=_Headers)


_decode_eta = msgspec.json.Decoder(_Envelope).decode


def encode_body(content: bytes, *, base64: bool) -> str:
    """The message's text. What SQS takes for no text goes as base64 in any case."""
    if not content:
        return _NOTHING
    if not base64:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = ""
        if text and not _NO_TEXT.search(text):
            return text
    return b2a_base64(content, newline=False).decode()


def decode_body(text: str) -> bytes:
    """What a message carries: base64 and plain text are told apart by looking, as kombu does it."""
    if text == _NOTHING:
        return b""
    if text[:1] not in "{[" and len(text) % 4 == 0:  # JSON is no base64
        try:
            content = a2b_base64(text, strict_mode=True)
        except (Base64Error, ValueError):
            return text.encode("utf-8", "surrogatepass")
        if b2a_base64(content, newline=False).decode() == text:
            return content
    return text.encode("utf-8", "surrogatepass")


def not_before_attribute(until: float) -> Entry:
    """`MessageAttributes` of a message that is parked until a UNIX time."""
    return {NOT_BEFORE: {"DataType": "Number", "StringValue": repr(until)}}


def due_date(message: Entry) -> float | None:
    """The UNIX time that such an attribute says; None where there is none that can be read."""
    attribute = cast("Entry", message.get("MessageAttributes", {})).get(NOT_BEFORE, {})
    try:
        date = float(attribute["StringValue"])
    except (KeyError, TypeError, ValueError):
        return None
    return date if math.isfinite(date) else None  # anybody who may send writes what he likes there


def read_eta(value: object) -> float | None:
    """The UNIX time of a message's header `eta`; None where it has none, or none that can be read."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None:
            return None
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def eta_of(content: bytes) -> float | None:
    """The UNIX time of the header `eta` of an envelope."""
    try:
        return read_eta(_decode_eta(content).headers.eta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def size_of(entry: Entry) -> int:
    """Bytes that count towards SQS's limit."""
    size = len(cast("str", entry["MessageBody"]).encode("utf-8", "surrogatepass"))
    for name, attribute in cast("Entry", entry.get("MessageAttributes", {})).items():
        size += len(name) + len(attribute["DataType"]) + len(attribute["StringValue"])
    return size
