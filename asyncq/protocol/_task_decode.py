"""From bytes to a call: the decode door (design.md, Protocol).

The order is fixed: size, bounded inflation, depth, decode. A message as Celery's own clients send it takes the typed
path, in which msgspec checks every field; anything else takes the lenient one, which tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import Any, TypeAlias, TypeGuard, cast

import msgspec
from msgspec import Struct

from asyncq.errors import DecodeError
from asyncq.protocol._bounds import json_excess
from asyncq.protocol._compression import decompress
from asyncq.protocol._envelope import check_size, decode_envelope, decode_task_envelope
from asyncq.protocol._headers import (
    NO_TASK,
    PROTOCOL_HEADERS,
    TRANSPORT_HEADERS,
    TaskHeaders,
    fault_of_names,
    read_headers,
)
from asyncq.protocol._json import MARKER, RawList
from asyncq.protocol._serializers import JSON, Serializer, serializer_for
from asyncq.protocol._times import parse_time
from asyncq.protocol._types import DEFAULT_LIMITS, Limits, Properties, TaskMessage, WireMessage

_Signature: TypeAlias = dict[str, Any]  # kept as it came: values of any type

#: Encodings of text that a body of JSON may come in, when AMQP's content_encoding says so (clients.md, 48). All other
#: names mean UTF-8 to us; the codec that a stranger names is never looked up.
_WIDE_ENCODINGS = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "iso-8859-1"})

#: Fields of a protocol 1 body that protocol 2 has as headers.
_BODY_FIELDS = PROTOCOL_HEADERS - {"compression"}


class _Links(Struct, gc=False):
    """The third part of a body: what follows the call."""

    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chain: Sequence[_Signature] | None = None
    chord: _Signature | None = None


class _JsonLinks(Struct, gc=False):
    """The same in JSON, as it is decoded."""

    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chain: list[msgspec.Raw] | None = None
    chord: _Signature | None = None


#: args and kwargs, of the user's types, and the links.
_Call: TypeAlias = tuple[list[Any], dict[str, Any], _Links]

_NO_LINKS = _Links()

_first_byte: Callable[[memoryview], int] = itemgetter(0)
_BRACE = {ord("{")}

_decode_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _JsonLinks | None]).decode


class _Body(Struct):
    """A message's body, inflated and still encoded, and how."""

    raw: bytes
    serializer: Serializer
    compression: str | None


def decode_task(
    content: bytes | WireMessage, *, limits: Limits = DEFAULT_LIMITS, accept: Collection[str] = ("json",)
) -> TaskMessage:
    """Decode a task's message, of protocol 2, 1 or the hybrid of both, and check it.

    `content` is kombu's envelope, or the message itself from a transport that takes it apart. `accept` holds the
    serialisers that may be decoded, by name or content type; pickle is decoded only when it is among them.

    Raises DecodeError, and nothing else, whatever comes in; its text says what is wrong and holds no arguments.
    """
    try:
        if isinstance(content, bytes):
            message = _decode_fast(content, limits, accept)
            if message is not None:
                return message
            content = decode_envelope(content, limits=limits)
        return _decode_wire(content, limits, accept)
    except (RecursionError, MemoryError) as exc:
        raise DecodeError(f"too large to decode: {type(exc).__name__}") from exc


def custom_headers(content: bytes | WireMessage, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The headers that are neither the protocol's nor a broker's notes: the user's own, and those of their tools.

    Raises DecodeError.
    """
    wire = decode_envelope(content, limits=limits) if isinstance(content, bytes) else content
    return {
        name: value
        for name, value in wire.headers.items()
        if name not in PROTOCOL_HEADERS and name not in TRANSPORT_HEADERS
    }


def _decode_fast(raw: bytes, limits: Limits, accept: Collection[str]) -> TaskMessage | None:
    """A message of protocol 2 with plain JSON arguments; None when it is anything else, or wrong."""
    envelope = decode_task_envelope(raw, limits)
    if (
        envelope is None
        or envelope.headers.task is None
        or envelope.headers.compression is not None
        or envelope.content_type != JSON.content_type
        or envelope.content_encoding not in {"utf-8", "binary"}
        or "json" not in accept
    ):
        return None
    call = _typed_call(envelope.body, limits)
    if call is None:
        return None
    return _to_message(envelope.headers, call, envelope.properties, _Body(envelope.body, JSON, None), 2)


def _decode_wire(wire: WireMessage, limits: Limits, accept: Collection[str]) -> TaskMessage:
    check_size(wire.body, limits)
    if len(wire.headers) > limits.max_headers:
        raise DecodeError(f"{len(wire.headers)} headers are more than the {limits.max_headers} allowed")
    is_protocol_2 = wire.headers.get("task") is not None
    # Of protocol 1 no header but one counts; nor of an event or a command, which are refused for what they are.
    headers = read_headers(wire.headers if is_protocol_2 else {"compression": wire.headers.get("compression")})
    body = _open_body(wire, headers, limits, accept)
    if body.serializer is JSON and is_protocol_2:
        call = _typed_call(body.raw, limits)
        if call is not None:
            return _to_message(headers, call, wire.properties, body, 2)
    value = body.serializer.decode(body.raw, limits)
    if _is_protocol_1(value, is_protocol_2):
        return _from_protocol_1(value, wire, body, limits)
    if not is_protocol_2:
        raise DecodeError(NO_TASK)
    return _to_message(headers, _checked_call(value, limits), wire.properties, body, 2)


def _open_body(wire: WireMessage, headers: TaskHeaders, limits: Limits, accept: Collection[str]) -> _Body:
    serializer = serializer_for(wire.content_type, accept)
    raw, compression = wire.body, None
    if headers.compression:
        raw, compression = decompress(raw, headers.compression, limits)
    if serializer is JSON and wire.content_encoding.lower() in _WIDE_ENCODINGS:
        try:
            raw = raw.decode(wire.content_encoding).encode("utf-8")
        except UnicodeError as exc:
            raise DecodeError(f"the body is no {wire.content_encoding}: {exc}") from exc
    return _Body(raw, serializer, compression)


# -- protocol 2 ----------------------------------------------------------------------------------------------


def _typed_call(raw: bytes, limits: Limits) -> _Call | None:
    """The three parts of a JSON body; None when it is something else, broken, or takes a closer look."""
    if MARKER in raw or json_excess(raw, limits):
        return None
    try:
        args, kwargs, links = _decode_call(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if links is None:
        return args, kwargs, _NO_LINKS
    for found in (links.callbacks, links.errbacks, links.chain):
        if found is not None and len(found) > limits.max_links:
            return None
    chain: Sequence[_Signature] | None = None
    if links.chain is not None:
        if not _are_objects(links.chain, raw):
            return None
        chain = RawList(links.chain)
    return args, kwargs, _Links(links.callbacks, links.errbacks, chain, links.chord)


def _are_objects(values: Sequence[msgspec.Raw], document: bytes) -> bool:
    """Whether values that msgspec has skipped in a document can be objects. Names and strings it has not looked at."""
    try:
        if not document.isascii():
            document.decode()
    except UnicodeDecodeError:
        return False
    return set(map(_first_byte, map(memoryview, values))) <= _BRACE


def _checked_call(value: object, limits: Limits) -> _Call:
    if not isinstance(value, list | tuple):
        raise DecodeError(f"the body must be [args, kwargs, embed], not {type(value).__name__}")
    parts = cast("list[object]", value)
    if len(parts) != 3:  # kills a Celery worker
        raise DecodeError(f"the body must hold args, kwargs and embed, not {len(parts)} parts")
    embed = parts[2]
    if embed is None:
        embed = {}
    if not isinstance(embed, dict):
        raise DecodeError(f"embed must be an object, not {type(embed).__name__}")
    return _args(parts[0]), _kwargs(parts[1]), _links(cast("dict[object, Any]", embed), limits)


def _args(value: object) -> list[Any]:  # of the user's types
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise DecodeError(f"args must be an array, not {type(value).__name__}")
    return list(cast("list[Any]", value))


def _kwargs(value: object) -> dict[str, Any]:  # of the user's types
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodeError(f"kwargs must be an object, not {type(value).__name__}")
    return _with_text_keys(cast("dict[object, Any]", value), "kwargs")


def _links(embed: dict[object, Any], limits: Limits) -> _Links:
    chord = embed.get("chord")
    return _Links(
        callbacks=_signatures(embed, "callbacks", limits),
        errbacks=_signatures(embed, "errbacks", limits),
        chain=_signatures(embed, "chain", limits),
        chord=None if chord is None else _signature(chord, "chord"),
    )


def _signatures(embed: dict[object, Any], name: str, limits: Limits) -> list[_Signature] | None:
    value: object = embed.get(name)
    if value is None:
        return None
    if isinstance(value, dict):  # a single one needs no list (messages.md, section 8)
        return [_signature(cast("object", value), name)]
    if not isinstance(value, list | tuple):
        raise DecodeError(f"{name} must be an array of signatures, not {type(value).__name__}")
    found = cast("list[object]", value)
    if len(found) > limits.max_links:
        raise DecodeError(f"{len(found)} {name} are more than the {limits.max_links} allowed")
    return [_signature(item, name) for item in found]


def _signature(value: object, name: str) -> _Signature:
    if not isinstance(value, dict):
        raise DecodeError(f"a signature in {name} must be an object, not {type(value).__name__}")
    return _with_text_keys(cast("dict[object, Any]", value), name)


def _with_text_keys(value: dict[object, Any], name: str) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in value):
        raise DecodeError(f"the keys of {name} must be text")
    return cast("dict[str, Any]", value)


# -- protocol 1 ----------------------------------------------------------------------------------------------


def _is_protocol_1(value: object, has_task_header: bool) -> TypeGuard[dict[object, Any]]:  # fields of any type
    return isinstance(value, dict) and (not has_task_header or "args" in value)


def _from_protocol_1(body: dict[object, Any], wire: WireMessage, how: _Body, limits: Limits) -> TaskMessage:
    """A body that is an object: protocol 1, or, with a header `task`, the hybrid, whose headers override the body."""
    fields = {name: body[name] for name in _BODY_FIELDS if name in body}
    if fields.get("group") is None:
        fields["group"] = body.get("taskset")  # Celery 4's name, which Celery 5 overlooks (clients.md, 21)
    if wire.headers.get("task") is not None:
        fields.update(wire.headers)
    fields["redelivered"] = wire.headers.get("redelivered")
    call = (_args(body.get("args")), _kwargs(body.get("kwargs")), _links(body, limits))
    return _to_message(read_headers(fields), call, wire.properties, how, 1)


# -- the message ---------------------------------------------------------------------------------------------


def _to_message(headers: TaskHeaders, call: _Call, properties: Properties, body: _Body, protocol: int) -> TaskMessage:
    task, task_id, fault = headers.task, headers.id, fault_of_names(headers)
    if task is None or task_id is None or fault is not None:
        raise DecodeError(fault)
    args, kwargs, links = call
    time_limit, soft_time_limit = headers.timelimit or (None, None)
    return TaskMessage(
        task=task,
        id=task_id,
        args=args,
        kwargs=kwargs,
        lang=headers.lang or "py",
        shadow=headers.shadow or None,
        eta=parse_time(headers.eta, "eta") if headers.eta else None,
        expires=parse_time(headers.expires, "expires") if headers.expires else None,
        group=headers.group,
        group_index=headers.group_index,
        retries=headers.retries or 0,
        time_limit=time_limit,
        soft_time_limit=soft_time_limit,
        root_id=headers.root_id,
        parent_id=headers.parent_id,
        argsrepr=headers.argsrepr,
        kwargsrepr=headers.kwargsrepr,
        origin=headers.origin,
        ignore_result=headers.ignore_result,
        replaced_task_nesting=headers.replaced_task_nesting or 0,
        stamped_headers=headers.stamped_headers,
        stamps=headers.stamps or {},
        callbacks=links.callbacks,
        errbacks=links.errbacks,
        chain=links.chain,
        chord=links.chord,
        properties=properties,
        redelivered=headers.redelivered is True,
        serializer=body.serializer.name,
        compression=body.compression,
        protocol=protocol,
        dispatch=headers.dispatch,
        lost=headers.lost,
    )
