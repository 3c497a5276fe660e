"""JSON with Celery's markers for the types that JSON lacks (messages.md, section 5.1).

A value of such a type travels as an object of exactly two keys, `{"__type__": "uuid", "__value__": …}`. msgspec does
the work where it agrees with Python's `json`, which is what Celery uses; where it does not, `json` does it:

* encoding: msgspec turns NaN into null and datetimes, UUIDs, Decimals and bytes into bare strings without asking, so it
  gets only what an exact walk over the types found harmless;
* decoding: msgspec refuses NaN, Infinity, numbers beyond a double and lone surrogates, all of which a Celery producer
  may send, and knows no markers.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any, TypeVar, cast, overload

import msgspec

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._bounds import json_excess, json_holds_more, json_nests_deeper
from asyncq.protocol._types import DEFAULT_LIMITS, Limits

_T = TypeVar("_T")

#: Where these bytes are missing, no marker can be.
MARKER = b"__type__"

#: Types that JSON has, and msgspec writes as `json` does.
_ATOMS = frozenset({str, int, bool, type(None)})


class RawList(Sequence[Any]):
    """A list that came in JSON: an item is decoded each time that it is looked at, and encoded as it came.

    Looking raises DecodeError for what can't be read. Where it is encoded it stands as deep as it stood.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Sequence[msgspec.Raw]) -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> RawList: ...
    def __getitem__(self, index: int | slice) -> Any:
        return RawList(self.raw[index]) if isinstance(index, slice) else loads(bytes(self.raw[index]))

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, RawList) else other)

    __hash__ = None  # type: ignore[assignment] # a list's

    def __repr__(self) -> str:
        return repr(list(self))


def _raw_items(value: object) -> Sequence[msgspec.Raw]:
    """For msgspec, which asks about every type that it doesn't know."""
    if isinstance(value, RawList):
        return value.raw
    raise NotImplementedError


_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder(enc_hook=_raw_items).encode


def dumps(value: object, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Encode a value as Celery's extended JSON, in UTF-8. Separators carry no blanks, unless markers are needed.

    What comes out can be decoded again: it nests no deeper than `limits.max_depth` and holds no more lists and dicts
    than a decoder takes, and a dict of the user's own that looks like a marker and is none is refused.

    Raises EncodeError when a type has no encoding, when the value contains itself, nests too deep or holds too much.
    """
    return encode_json(value, limits.max_depth)


def loads(raw: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Any:  # a user's value: of any type
    """Decode Celery's extended JSON.

    Raises DecodeError, whatever comes in.
    """
    if len(raw) > limits.max_message_bytes:
        raise DecodeError(f"{len(raw)} bytes are more than the {limits.max_message_bytes} allowed")
    try:
        return decode_json(raw, limits)
    except (RecursionError, MemoryError) as exc:
        raise DecodeError(f"too large to decode: {type(exc).__name__}") from exc


def encode_json(value: object, depth: int) -> bytes:
    """As `dumps`, for a value that will stand inside something: it may nest `depth` levels."""
    try:
        if _is_plain(value, depth):
            return _within_bounds(_encode_any(value))
    except (UnicodeEncodeError, ValueError, OverflowError):
        pass  # lone surrogates, integers of more digits than Python converts: `json` knows, or says what is wrong
    return encode_as_celery(value, depth)


def encode_as_celery(value: object, depth: int) -> bytes:
    """As `encode_json`, and byte for byte what Celery's encoder writes: blanks after separators, ASCII alone."""
    data = _encode(value)
    if json_nests_deeper(data, depth):
        raise EncodeError(f"nested deeper than {depth} levels")
    if MARKER in data:
        try:
            _loads_stdlib(data)
        except DecodeError as exc:
            raise EncodeError(f"could not be decoded again: {exc}") from exc
    return _within_bounds(data)


def _within_bounds(data: bytes) -> bytes:
    most = DEFAULT_LIMITS.max_containers
    if json_holds_more(data, most):
        raise EncodeError(f"more than {most} lists and dicts")
    return data


def decode_json(raw: bytes, limits: Limits) -> Any:  # a user's value: of any type
    """As `loads`, for bytes whose size somebody else has bounded and within a door that catches RecursionError."""
    if excess := json_excess(raw, limits):
        raise DecodeError(f"JSON {excess}")
    if MARKER not in raw:
        try:
            return _decode_any(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # broken, or one of the things that msgspec refuses: `json` knows
    return _loads_stdlib(raw)


def register_json_type(
    type_: type[_T],
    marker: str | None,
    encode: Callable[[_T], object],
    decode: Callable[[Any], object] | None = None,  # gets what stands in the message: of any type
) -> None:
    """Teach asyncq's JSON a type, for the whole process, as `kombu.utils.json.register_type` does for Celery.

    Instances of the type and its subclasses are written as `{"__type__": marker, "__value__": encode(instance)}`, and
    `decode` turns the `__value__` back. Without a marker `encode(instance)` itself is written, and comes back as such.
    Call it at import time, in every process that shares the messages.

    Raises ValueError when a marker has no decoder, or is one of Celery's own.
    """
    if marker is not None:
        if decode is None:
            raise ValueError(f"marker {marker!r} needs a decoder")
        if marker in _BUILT_IN:
            raise ValueError(f"marker {marker!r} is one of Celery's own")
        _decoders[marker] = decode
    _encoders[type_] = (marker, cast("Callable[[Any], object]", encode))


def encode_text(text: str) -> bytes:
    """A JSON string."""
    try:
        return _encode_any(text)
    except UnicodeEncodeError:  # a lone surrogate: only an escape can carry it
        return json.dumps(text).encode("ascii")


def _is_plain(value: object, depth: int) -> bool:
    """Whether `value` holds nothing but exact types that msgspec encodes as `json` does, at most `depth` levels deep.

    Subclasses count as not plain: an enum, a user's dict or str may mean something else. So does what looks like a
    marker.
    """
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is float:
        return isfinite(cast("float", value))
    if depth == 0:
        return False
    if kind is dict:
        mapping = cast("dict[Any, Any]", value)
        if len(mapping) == 2 and "__type__" in mapping:
            return False
        for key, item in mapping.items():
            if type(key) is not str or not (type(item) in _ATOMS or _is_plain(item, depth - 1)):
                return False
        return True
    if kind is list or kind is tuple:
        for item in cast("list[Any]", value):  # noqa: SIM110 - a generator costs twice as much
            if not (type(item) in _ATOMS or _is_plain(item, depth - 1)):
                return False
        return True
    return kind is RawList


def _encode(value: object) -> bytes:
    try:
        return _stdlib_encode(value).encode("ascii")
    except EncodeError:
        raise
    except RecursionError as exc:
        raise EncodeError("nested too deep, or contains itself") from exc
    except (TypeError, ValueError, OverflowError) as exc:
        raise EncodeError(str(exc)) from exc


def _encode_special(value: object) -> object:
    """For `json`: what stands for a value that JSON has no type for."""
    marker, encode = _encoder_of(value)
    try:
        encoded = encode(value)
    except Exception as exc:  # code of the user's, and whatever it raises means the same
        raise EncodeError(f"{type(value).__name__} could not be encoded: {exc!r}") from exc
    return encoded if marker is None else {"__type__": marker, "__value__": encoded}


def _encoder_of(value: object) -> tuple[str | None, Callable[[Any], object]]:
    if hasattr(value, "__json__"):
        return None, _reduce
    for kind in type(value).__mro__:
        entry = _encoders.get(kind)
        if entry is not None:
            return entry
    raise EncodeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _reduce(value: Any) -> object:  # anything with a `__json__`
    return value.__json__()


def _encode_bytes(value: bytes) -> object:
    try:
        return {"__type__": "bytes", "__value__": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": base64.b64encode(value).decode("ascii")}


def _loads_stdlib(raw: bytes) -> Any:  # a user's value: of any type
    try:
        return json.loads(raw.decode("utf-8"), object_hook=_revive)
    except DecodeError:
        raise
    except UnicodeDecodeError as exc:
        raise DecodeError(f"JSON is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except ValueError as exc:  # malformed, or an integer of more digits than Python converts
        raise DecodeError(f"no JSON: {exc}") from exc


def _revive(pairs: dict[str, Any]) -> Any:  # what the marker stands for: of any type
    """For `json`: an object, or what it stands for."""
    if len(pairs) != 2 or "__type__" not in pairs or "__value__" not in pairs:
        return pairs
    marker = pairs["__type__"]
    decode = _decoders.get(marker) if isinstance(marker, str) else None
    if decode is None:
        raise DecodeError(f"JSON marker of an unknown type: {marker!r:.80}")
    try:
        return decode(pairs["__value__"])
    except Exception as exc:  # decoders may be the app's, and whatever they raise means the same
        raise DecodeError(f"JSON marker {marker!r} with a value that is none: {exc!r:.200}") from exc


def _decode_date(value: str) -> date:
    return datetime.fromisoformat(value).date()  # a whole datetime is allowed, too


def _decode_decimal(value: object) -> Decimal:
    if not isinstance(value, str | int | float):
        raise TypeError(f"{type(value).__name__} is no number")
    return Decimal(value)


def _decode_uuid(value: dict[str, object]) -> uuid.UUID:
    match value:
        case {"hex": str(text)} if len(value) == 1:
            return uuid.UUID(hex=text)
        case {"int": int(number)} if len(value) == 1:
            return uuid.UUID(int=number)
        case _:
            raise TypeError("neither hex nor int")


def _decode_bytes(value: str) -> bytes:
    return value.encode("utf-8")


def _encode_iso(value: date | time) -> str:
    return value.isoformat()


def _encode_uuid(value: uuid.UUID) -> dict[str, str]:
    return {"hex": value.hex}


_encoders: dict[type, tuple[str | None, Callable[[Any], object]]] = {
    datetime: ("datetime", _encode_iso),
    date: ("date", _encode_iso),
    time: ("time", _encode_iso),
    Decimal: ("decimal", str),
    uuid.UUID: ("uuid", _encode_uuid),
    bytes: (None, _encode_bytes),
    RawList: (None, list),
}
_decoders: dict[str, Callable[[Any], object]] = {
    "datetime": datetime.fromisoformat,
    "date": _decode_date,
    "time": time.fromisoformat,
    "decimal": _decode_decimal,
    "uuid": _decode_uuid,
    "bytes": _decode_bytes,
    "base64": base64.b64decode,
}
_BUILT_IN = frozenset(_decoders)

_stdlib_encode = json.JSONEncoder(default=_encode_special).encode
