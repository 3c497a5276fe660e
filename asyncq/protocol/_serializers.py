"""Content types and the serialisers behind them (messages.md, section 5)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection
from typing import Any, cast

import msgspec
from msgspec import Struct

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._bounds import msgpack_may_nest_deeper, value_nests_deeper
from asyncq.protocol._json import decode_json, dumps
from asyncq.protocol._types import Limits
from asyncq.protocol._yaml import dump_yaml, load_yaml


class Serializer(Struct, frozen=True):
    """How values become bodies of one content type, and back."""

    #: Celery's name for it, as in `accept_content`.
    name: str
    content_type: str
    content_encoding: str
    #: Raises EncodeError.
    encode: Callable[[object, Limits], bytes]
    #: Raises DecodeError; RecursionError and MemoryError are left to the door.
    decode: Callable[[bytes, Limits], Any]  # a user's value: of any type


def serializer_named(name: str) -> Serializer:
    """The serialiser that a sender asked for. Raises EncodeError."""
    found = _BY_NAME.get(name)
    if found is None:
        raise EncodeError(f"unknown serializer {name!r:.80}; known: {', '.join(_BY_NAME)}")
    return found


def serializer_for(content_type: str, accept: Collection[str]) -> Serializer:
    """The serialiser of a body that arrived, if it may be decoded.

    `accept` holds names or content types, as Celery's `accept_content`. Raw bytes need no permission: there is nothing
    to decode.

    Raises DecodeError.
    """
    found = _BY_CONTENT_TYPE.get(content_type) or _BY_CONTENT_TYPE.get(_bare(content_type))
    if found is None:
        raise DecodeError(f"unknown content type {content_type!r:.80}")
    if found.name in accept or found.content_type in accept or found is RAW:
        return found
    raise DecodeError(f"content type {found.content_type} ({found.name}) is not accepted here")


def _bare(content_type: str) -> str:
    """`application/json; charset=utf-8` is JSON, though Celery drops it."""
    return content_type.partition(";")[0].strip().lower()


def _encode_json(value: object, limits: Limits) -> bytes:
    return dumps(value, limits=limits)


def _encode_msgpack(value: object, limits: Limits) -> bytes:
    odd = _unfit_for_msgpack(value, limits.max_depth)
    if odd is not None:
        raise EncodeError(f"msgpack can't carry {odd}")
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError) as exc:
        raise EncodeError(f"msgpack: {exc}") from exc


def _unfit_for_msgpack(value: object, depth: int) -> str | None:
    """What of a value msgpack can't carry, or msgspec would silently turn into something else; None if all is well."""
    kind = type(value)
    if kind in _MSGPACK_ATOMS:
        return None
    if kind not in (list, tuple, dict):
        return f"a {kind.__name__}"
    if depth == 0:
        return "so many levels of nesting"
    items = cast("list[Any]", value)
    if kind is dict:
        mapping = cast("dict[Any, Any]", value)
        if any(type(key) is not str for key in mapping):
            return "keys that are no text"
        items = list(mapping.values())
    for item in items:
        odd = _unfit_for_msgpack(item, depth - 1)
        if odd is not None:
            return odd
    return None


def _decode_msgpack(raw: bytes, limits: Limits) -> Any:  # a user's value: of any type
    try:
        value = _msgpack_decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise DecodeError(f"no msgpack: {exc}") from exc
    if msgpack_may_nest_deeper(raw, limits.max_depth) and value_nests_deeper(value, limits.max_depth):
        raise DecodeError(f"msgpack is nested deeper than {limits.max_depth} levels")
    return value


def _refuse_extension(code: int, _data: memoryview) -> object:
    raise DecodeError(f"msgpack extension of type {code}")


def _encode_yaml(value: object, limits: Limits) -> bytes:
    if value_nests_deeper(value, limits.max_depth):
        raise EncodeError(f"nested deeper than {limits.max_depth} levels")
    return dump_yaml(value)


def _refuse_pickle(_value: object, _limits: Limits) -> bytes:
    raise EncodeError("asyncq writes no pickle; whoever reads one runs what its writer wants")


def _decode_pickle(raw: bytes, _limits: Limits) -> Any:  # a user's value: of any type
    try:
        return pickle.loads(raw)  # noqa: S301 - reached only when the app accepts 'pickle' by name
    except Exception as exc:  # a pickle raises what it likes
        raise DecodeError(f"no pickle: {exc!r:.200}") from exc


def _encode_raw(value: object, _limits: Limits) -> bytes:
    if isinstance(value, bytes):
        return value
    raise EncodeError(f"serializer raw takes bytes, not {type(value).__name__}")


def _decode_raw(raw: bytes, _limits: Limits) -> bytes:
    return raw


_MSGPACK_ATOMS = frozenset({str, int, bool, float, bytes, type(None)})
_msgpack_decode = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode

JSON = Serializer("json", "application/json", "utf-8", _encode_json, decode_json)
MSGPACK = Serializer("msgpack", "application/x-msgpack", "binary", _encode_msgpack, _decode_msgpack)
YAML = Serializer("yaml", "application/x-yaml", "utf-8", _encode_yaml, load_yaml)
PICKLE = Serializer("pickle", "application/x-python-serialize", "binary", _refuse_pickle, _decode_pickle)
RAW = Serializer("raw", "application/data", "binary", _encode_raw, _decode_raw)

_BY_NAME = {found.name: found for found in (JSON, MSGPACK, YAML, PICKLE, RAW)}
_BY_CONTENT_TYPE = {found.content_type: found for found in _BY_NAME.values()}
