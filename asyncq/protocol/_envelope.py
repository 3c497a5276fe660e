"""kombu's JSON envelope, in which Redis, SQS, files and databases carry a message (redis.md, section 2)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct, field

from asyncq.errors import DecodeError
from asyncq.protocol._bounds import json_excess
from asyncq.protocol._headers import TaskHeaders
from asyncq.protocol._json import MARKER, decode_json, encode_json, encode_text
from asyncq.protocol._types import DEFAULT_LIMITS, Limits, Properties, WireMessage

_HeadersT = TypeVar("_HeadersT")

_MAX_PRIORITY = 255


class _DeliveryInfo(Struct, gc=False):
    redelivered: bool | None = None


class _Properties(Struct, gc=False):
    correlation_id: str | None = None
    reply_to: str | None = None
    #: celery-node's names for the two.
    correlation_id_camel: str | None = field(default=None, name="correlationId")
    reply_to_camel: str | None = field(default=None, name="replyTo")
    priority: Annotated[int, Meta(ge=0, le=_MAX_PRIORITY)] | None = None
    delivery_mode: Literal[1, 2] = 2
    expiration: str | None = None
    body_encoding: str | None = None
    delivery_info: _DeliveryInfo | None = None
    message_group_id: str | None = field(default=None, name="MessageGroupId")
    message_deduplication_id: str | None = field(default=None, name="MessageDeduplicationId")


class _Envelope(Struct, Generic[_HeadersT]):
    body: str
    headers: _HeadersT
    properties: _Properties
    content_type: str = field(default="application/json", name="content-type")
    content_encoding: str | None = field(default=None, name="content-encoding")


class TaskEnvelope(Struct):
    """An envelope whose headers are a task's, decoded by type: the fast path."""

    headers: TaskHeaders
    body: bytes
    content_type: str
    content_encoding: str | None
    properties: Properties


_decode_task_envelope = msgspec.json.Decoder(_Envelope[TaskHeaders]).decode
_decode_wire_envelope = msgspec.json.Decoder(_Envelope[dict[str, Any]]).decode


def encode_envelope(message: WireMessage, *, routing_key: str, exchange: str = "", delivery_tag: str) -> bytes:
    """Wrap a message for a broker that stores bytes.

    Guaranteed: UTF-8 JSON with kombu's fields, in kombu's order and with its separators (`", "`, `": "`) between them;
    the body in base64. Not guaranteed: how blanks stand inside `headers`.

    No size is too large here: a dead letter must find its place, whatever it is.

    Raises EncodeError: a header that JSON can't carry.
    """
    properties = message.properties
    parts = [
        b'{"body": "',
        b2a_base64(message.body, newline=False),
        b'", "content-encoding": ',
        encode_text(message.content_encoding),
        b', "content-type": ',
        encode_text(message.content_type),
        b', "headers": ',
        encode_json(message.headers, DEFAULT_LIMITS.max_depth - 1),
        b', "properties": {',
    ]
    if properties.correlation_id is not None:
        parts += (b'"correlation_id": ', encode_text(properties.correlation_id), b", ")
    if properties.reply_to is not None:
        parts += (b'"reply_to": ', encode_text(properties.reply_to), b", ")
    if properties.message_group_id is not None:
        parts += (b'"MessageGroupId": ', encode_text(properties.message_group_id), b", ")
    if properties.message_deduplication_id is not None:
        parts += (b'"MessageDeduplicationId": ', encode_text(properties.message_deduplication_id), b", ")
    parts.append(b'"delivery_mode": %d, ' % properties.delivery_mode)
    if properties.expiration is not None:
        parts += (b'"expiration": ', encode_text(properties.expiration), b", ")
    parts += (
        b'"delivery_info": {"exchange": ',
        encode_text(exchange),
        b', "routing_key": ',
        encode_text(routing_key),
        b'}, "priority": %d, "body_encoding": "base64", "delivery_tag": ' % (properties.priority or 0),
        encode_text(delivery_tag),
        b"}}",
    )
    return b"".join(parts)


def decode_envelope(raw: bytes, *, limits: Limits = DEFAULT_LIMITS) -> WireMessage:
    """Unwrap a message. Its headers are the sender's, unchecked; `redelivered` is among them if either place says so.

    What other clients leave out or write otherwise (clients.md) is tolerated as far as its meaning is clear: a plain
    text body, a missing content type (JSON), no delivery info.

    Raises DecodeError, whatever comes in.
    """
    check_size(raw, limits)
    try:
        if excess := json_excess(raw, limits):
            raise DecodeError(f"the envelope {excess}")
        envelope = None if MARKER in raw else _typed_envelope(raw)
        if envelope is None:
            envelope = _lenient_envelope(decode_json(raw, limits))
    except (RecursionError, MemoryError) as exc:
        raise DecodeError(f"too large to decode: {type(exc).__name__}") from exc
    headers = envelope.headers
    if len(headers) > limits.max_headers:
        raise DecodeError(f"{len(headers)} headers are more than the {limits.max_headers} allowed")
    if _redelivered(envelope.properties):
        headers["redelivered"] = True
    return WireMessage(
        body=_body(envelope.body, envelope.properties.body_encoding),
        headers=headers,
        properties=_to_properties(envelope.properties),
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding or "utf-8",
    )


def decode_task_envelope(raw: bytes, limits: Limits) -> TaskEnvelope | None:
    """The same for a task's message, several times as fast; None when anything about it is unusual or wrong."""
    if len(raw) > limits.max_message_bytes or json_excess(raw, limits):
        return None
    # Each header has a colon and takes five bytes at least: mostly the length alone tells that there are few enough.
    if len(raw) > 5 * limits.max_headers and raw.count(b":") > limits.max_headers:
        return None
    try:
        envelope = _decode_task_envelope(raw)
        body = _body(envelope.body, envelope.properties.body_encoding)
    except (msgspec.DecodeError, UnicodeDecodeError, DecodeError):
        return None
    if envelope.headers.stamps and MARKER in raw:  # the only header here that may hold more than text and numbers
        return None
    if _redelivered(envelope.properties):
        envelope.headers.redelivered = True
    return TaskEnvelope(
        envelope.headers,
        body,
        envelope.content_type,
        envelope.content_encoding,
        _to_properties(envelope.properties),
    )


def check_size(raw: bytes, limits: Limits) -> None:
    """Raises DecodeError for a message of too many bytes."""
    if len(raw) > limits.max_message_bytes:
        raise DecodeError(f"the message has {len(raw)} bytes, {limits.max_message_bytes} are allowed")


def _body(text: str, body_encoding: str | None) -> bytes:
    try:
        if body_encoding == "base64":
            return a2b_base64(text)
        if body_encoding is None or body_encoding == "utf-8":
            return text.encode("utf-8")
    except ValueError as exc:
        raise DecodeError(f"the body is no {body_encoding or 'valid text'}: {exc}") from exc
    raise DecodeError(f"unknown body_encoding {body_encoding!r:.80}")


def _redelivered(properties: _Properties) -> bool:
    return properties.delivery_info is not None and properties.delivery_info.redelivered is True


def _to_properties(found: _Properties) -> Properties:
    return Properties(
        found.correlation_id or found.correlation_id_camel,
        found.reply_to if found.reply_to is not None else found.reply_to_camel,
        found.priority,
        found.delivery_mode,
        found.expiration,
        found.message_group_id,
        found.message_deduplication_id,
    )


# -- whatever the types are ----------------------------------------------------------------------------------


def _typed_envelope(raw: bytes) -> _Envelope[dict[str, Any]] | None:
    try:
        return _decode_wire_envelope(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _lenient_envelope(value: object) -> _Envelope[dict[str, Any]]:
    if not isinstance(value, dict):
        raise DecodeError(f"the envelope must be an object, not {type(value).__name__}")
    found = cast("dict[str, Any]", value)
    body = found.get("body")
    if not isinstance(body, str):
        raise DecodeError("the envelope has no body" if body is None else "the envelope's body must be text")
    content_type = found.get("content-type")
    content_encoding = found.get("content-encoding")
    return _Envelope(
        body=body,
        headers=_object(found, "headers"),
        properties=_lenient_properties(_object(found, "properties")),
        content_type=content_type if isinstance(content_type, str) else "application/json",
        content_encoding=content_encoding if isinstance(content_encoding, str) else None,
    )


def _object(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodeError(f"the envelope's {name} must be an object, not {type(value).__name__}")
    return cast("dict[str, Any]", value)


def _lenient_properties(found: dict[str, Any]) -> _Properties:
    """Properties steer the way of a message, not its meaning: what is odd about them is left out."""
    priority = found.get("priority")
    if isinstance(priority, bool) or not isinstance(priority, int):
        priority = None
    expiration = found.get("expiration")
    if isinstance(expiration, int) and not isinstance(expiration, bool):
        expiration = str(expiration)
    else:
        expiration = _property_text(found, "expiration")
    info = found.get("delivery_info")
    return _Properties(
        correlation_id=_property_text(found, "correlation_id"),
        reply_to=_property_text(found, "reply_to"),
        correlation_id_camel=_property_text(found, "correlationId"),
        reply_to_camel=_property_text(found, "replyTo"),
        priority=None if priority is None else min(max(priority, 0), _MAX_PRIORITY),
        delivery_mode=1 if found.get("delivery_mode") == 1 else 2,
        expiration=expiration,
        body_encoding=_property_text(found, "body_encoding"),
        message_group_id=_property_text(found, "MessageGroupId"),
        message_deduplication_id=_property_text(found, "MessageDeduplicationId"),
        delivery_info=_DeliveryInfo(isinstance(info, dict) and cast("dict[str, Any]", info).get("redelivered") is True),
    )


def _property_text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if not isinstance(value, str):
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate would fail later, on its way to a server
        return None
    return value
