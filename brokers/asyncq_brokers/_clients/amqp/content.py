"""A message as AMQP carries it: a content header of properties and a header table, then the body."""

from __future__ import annotations

from struct import Struct
from typing import Any

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import Properties, WireMessage

from .tables import decode_table, encode_short, encode_table, read_short

__all__ = ["body_size", "decode_content", "encode_content_header"]

#: Class (60, basic), weight, body size, property flags.
_HEAD = Struct(">HHQH")
_SIZE = Struct(">Q")

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 1 << 15, 1 << 14, 1 << 13
_DELIVERY_MODE, _PRIORITY = 1 << 12, 1 << 11
_CORRELATION_ID, _REPLY_TO, _EXPIRATION = 1 << 10, 1 << 9, 1 << 8


def encode_content_header(message: WireMessage) -> bytes:
    """The payload of the content header frame. Raises EncodeError."""
    properties = message.properties
    flags = _CONTENT_TYPE | _CONTENT_ENCODING | _HEADERS | _DELIVERY_MODE
    parts = [
        encode_short(message.content_type),
        encode_short(message.content_encoding),
        encode_table(message.headers),
        b"%c" % properties.delivery_mode,
    ]
    if properties.priority is not None:
        if not 0 <= properties.priority <= 255:
            raise EncodeError(f"AMQP's priorities go from 0 to 255, not {properties.priority}")
        flags |= _PRIORITY
        parts.append(b"%c" % properties.priority)
    for flag, text in (
        (_CORRELATION_ID, properties.correlation_id),
        (_REPLY_TO, properties.reply_to),
        (_EXPIRATION, properties.expiration),
    ):
        if text is not None:
            flags |= flag
            parts.append(encode_short(text))
    return _HEAD.pack(60, 0, len(message.body), flags) + b"".join(parts)


def body_size(header: bytes) -> int:
    """Bytes of body that follow a content header."""
    return _SIZE.unpack_from(header, 4)[0]


def decode_content(header: bytes, body: bytes) -> WireMessage:
    """The message of a content header and a body. Raises DecodeError.

    What Celery doesn't use (`message_id`, `timestamp`, …) stands behind the rest and is left unread.
    """
    flags = _HEAD.unpack_from(header)[3]
    offset = _HEAD.size
    content_type, content_encoding = "application/data", "utf-8"
    headers: dict[str, Any] = {}
    properties = Properties()
    try:
        if flags & _CONTENT_TYPE:
            content_type, offset = read_short(header, offset)
        if flags & _CONTENT_ENCODING:
            content_encoding, offset = read_short(header, offset)
        if flags & _HEADERS:
            headers, offset = decode_table(header, offset)
        if flags & _DELIVERY_MODE:
            properties.delivery_mode = header[offset]
            offset += 1
        else:
            properties.delivery_mode = 1
        if flags & _PRIORITY:
            properties.priority = header[offset]
            offset += 1
        if flags & _CORRELATION_ID:
            properties.correlation_id, offset = read_short(header, offset)
        if flags & _REPLY_TO:
            properties.reply_to, offset = read_short(header, offset)
        if flags & _EXPIRATION:
            properties.expiration, offset = read_short(header, offset)
    except IndexError as error:
        raise DecodeError(f"malformed message properties: {error}") from error
    return WireMessage(body, headers, properties, content_type, content_encoding)
