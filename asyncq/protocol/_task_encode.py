"""From a call to bytes: protocol 2, as Celery 5.7 writes it (messages.md, sections 1 to 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from asyncq.errors import EncodeError
from asyncq.protocol._compression import compress
from asyncq.protocol._envelope import decode_envelope
from asyncq.protocol._headers import LOST_HEADER, PROTOCOL_HEADERS, TRANSPORT_HEADERS, fault_of_names
from asyncq.protocol._json import RawList, dumps
from asyncq.protocol._repr import shape_of_args, shape_of_kwargs
from asyncq.protocol._serializers import JSON, PICKLE, Serializer, serializer_named
from asyncq.protocol._task_decode import custom_headers
from asyncq.protocol._times import format_time
from asyncq.protocol._types import DEFAULT_LIMITS, Limits, Properties, TaskMessage, WireMessage

#: When a task that was lost expired, for those who don't know the note that says so.
_LONG_AGO = "1970-01-01T00:00:00+00:00"

#: What an envelope takes besides the body (which is in base64 there), with reprs at their longest.
_ROOM_FOR_HEADERS = 8192


def encode_task(
    message: TaskMessage,
    *,
    headers: Mapping[str, Any] | None = None,  # the user's own: of any type
    limits: Limits = DEFAULT_LIMITS,
) -> WireMessage:
    """Encode a call as protocol 2, with every header that Celery sets, null where there is nothing to say.

    `headers` are the user's own; they stand beside the protocol's, at top level. What the message leaves open is filled
    in as Celery does it: `root_id` and `correlation_id` are the id, an empty `reply_to`. `argsrepr` and `kwargsrepr`
    become shapes. A compression whose output a reader would refuse as a bomb is left out.

    Raises EncodeError: a name or id that no reader takes, an argument that has no encoding, nesting or size beyond
    `limits`, a header of the user's with one of the protocol's names, a serialiser or compression that doesn't exist.
    """
    fault = fault_of_names(message)
    if fault is not None:
        raise EncodeError(fault)
    serializer = JSON if message.serializer == "json" else serializer_named(message.serializer)
    links = {
        "callbacks": message.callbacks,
        "errbacks": message.errbacks,
        "chain": _chain_of(message, serializer),
        "chord": message.chord,
    }
    body = serializer.encode([message.args, message.kwargs, links], limits)
    wire_headers = _headers(message)
    if message.compression is not None:
        packed = compress(body, message.compression, limits)
        if packed is not None:
            body, wire_headers["compression"] = packed
    size = len(body) * 4 // 3 + _ROOM_FOR_HEADERS
    if size > limits.max_message_bytes:
        raise EncodeError(f"the message would take {size} bytes, {limits.max_message_bytes} are allowed")
    if headers:
        taken = PROTOCOL_HEADERS.intersection(headers)
        if taken:
            raise EncodeError(f"headers that belong to the protocol: {', '.join(sorted(taken))}")
        wire_headers.update(headers)
    properties = message.properties
    return WireMessage(
        body,
        wire_headers,
        Properties(
            properties.correlation_id or message.id,
            properties.reply_to or "",
            properties.priority,
            properties.delivery_mode,
            properties.expiration,
            properties.message_group_id,
            properties.message_deduplication_id,
        ),
        serializer.content_type,
        serializer.content_encoding,
    )


def retry_of(
    content: bytes | WireMessage,
    message: TaskMessage,
    *,
    eta: datetime | None,
    retries: int,
    limits: Limits = DEFAULT_LIMITS,
) -> WireMessage:
    """The message of a task's next attempt (messages.md, section 9).

    `content` is the message as it came, `message` what it was decoded to. The body's bytes are used again, and so is
    every header, known or not, but for those that tell of the old message's way. `expires` stays as it was written; the
    property `expiration` goes, since the broker would drop the message before anybody could record it as REVOKED. As
    with Celery, a task that nobody sent becomes its own parent.

    A message of protocol 1, whose body says how often it was tried, is written anew as protocol 2.

    Raises DecodeError if `content` is not what `message` was decoded from; EncodeError if it must be written anew and
    can't be.
    """
    parent_id = message.parent_id or message.id
    if message.protocol == 1:
        properties = replace(message.properties, expiration=None)
        fresh = replace(message, eta=eta, retries=retries, parent_id=parent_id, properties=properties)
        return _anew(content, fresh, limits)
    wire = decode_envelope(content, limits=limits) if isinstance(content, bytes) else content
    headers = {name: value for name, value in wire.headers.items() if name not in TRANSPORT_HEADERS}
    headers["retries"] = retries
    headers["eta"] = None if eta is None else format_time(eta)
    headers["parent_id"] = parent_id
    return replace(wire, headers=headers, properties=replace(wire.properties, expiration=None))


def rescheduled(
    content: bytes | WireMessage, message: TaskMessage, *, eta: datetime, limits: Limits = DEFAULT_LIMITS
) -> WireMessage:
    """The message of the same attempt, due at another time; nothing else changes.

    Arguments and errors are those of `retry_of`, and so is what becomes of protocol 1, which has its ETA in the body.
    """
    if message.protocol == 1:
        return _anew(content, replace(message, eta=eta), limits)
    wire = decode_envelope(content, limits=limits) if isinstance(content, bytes) else content
    return replace(wire, headers={**wire.headers, "eta": format_time(eta)})


def lost_of(
    content: bytes | WireMessage, described: Mapping[str, Any], *, limits: Limits = DEFAULT_LIMITS
) -> WireMessage:
    """The message that tells of a task which was lost with its worker: who receives it ends it by the exception that
    is `described`, as `describe_exception` does it.

    To whoever doesn't know this note it says that the task has expired, so that nobody runs it. Protocol 2 alone.
    Raises DecodeError.
    """
    wire = decode_envelope(content, limits=limits) if isinstance(content, bytes) else content
    headers = {name: value for name, value in wire.headers.items() if name not in TRANSPORT_HEADERS}
    headers |= {LOST_HEADER: dumps(described).decode(), "expires": _LONG_AGO, "eta": None}
    return replace(wire, headers=headers, properties=replace(wire.properties, expiration=None))


def _anew(content: bytes | WireMessage, message: TaskMessage, limits: Limits) -> WireMessage:
    """A message of protocol 1 as protocol 2. What came as pickle goes as JSON: asyncq writes none."""
    if message.serializer == PICKLE.name:
        message = replace(message, serializer="json")
    return encode_task(message, headers=custom_headers(content, limits=limits), limits=limits)


def _chain_of(message: TaskMessage, serializer: Serializer) -> Sequence[dict[str, Any]] | None:  # as it came
    chain = message.chain
    if chain is None or (serializer is JSON and isinstance(chain, RawList)):
        return chain
    return list(chain)


def _headers(message: TaskMessage) -> dict[str, Any]:
    """The protocol's headers in Celery's order; values are text, numbers and what stamps the user has."""
    return {
        "lang": message.lang,
        "task": message.task,
        "id": message.id,
        "shadow": message.shadow,
        "eta": None if message.eta is None else format_time(message.eta),
        "expires": None if message.expires is None else format_time(message.expires),
        "group": message.group,
        "group_index": message.group_index,
        "retries": message.retries,
        "timelimit": [message.time_limit, message.soft_time_limit],
        "root_id": message.root_id or message.id,
        "parent_id": message.parent_id,
        "argsrepr": shape_of_args(message.args) if message.argsrepr is None else message.argsrepr,
        "kwargsrepr": shape_of_kwargs(message.kwargs) if message.kwargsrepr is None else message.kwargsrepr,
        "origin": message.origin,
        "ignore_result": message.ignore_result,
        "replaced_task_nesting": message.replaced_task_nesting,
        "stamped_headers": message.stamped_headers,
        "stamps": message.stamps,
    }
