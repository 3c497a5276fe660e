"""AMQP's field tables, with the type letters that Celery uses.

pamqp picks the smallest integer and 32-bit floats: 0.1 would arrive as 0.10000000149011612, and older Celery clients
read a 16-bit integer as a short string (messages.md, section 3.2). So integers go out as `I` or `l`, floats as `d`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from struct import Struct, error
from typing import Any, cast

from asyncq.errors import DecodeError, EncodeError

__all__ = ["decode_table", "encode_short", "encode_table", "read_short", "skip_short"]

# `Any` below: the values are the sender's.

#: Nested tables and arrays, either way.
_MAX_DEPTH = 64

_U32 = Struct(">I")
_U64 = Struct(">Q")
_DECIMAL = Struct(">Bi")
_INT32_LETTER = Struct(">ci")
_INT64_LETTER = Struct(">cq")
_FLOAT_LETTER = Struct(">cd")
_TIME_LETTER = Struct(">cQ")
_LONG_LETTER = Struct(">cI")

#: Letters of fixed size.
_FIXED = {
    ord(letter): Struct(f">{code}")
    for letter, code in {
        "b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d",
    }.items()
}  # fmt: skip


def encode_table(table: Mapping[str, Any]) -> bytes:
    """A table with its length. Raises EncodeError for what AMQP has no type for."""
    return _table(table, 0)


def encode_short(text: str) -> bytes:
    """A short string with its length. Raises EncodeError beyond 255 bytes, and for half characters."""
    try:
        data = text.encode() if text.isascii() else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise EncodeError(f"AMQP takes UTF-8 here, and {text[:40]!r} can't be written in it") from None
    if len(data) > 255:
        raise EncodeError(f"AMQP takes 255 bytes here, and {text[:40]!r}… has {len(data)}")
    return b"%c%b" % (len(data), data)


@lru_cache(maxsize=512)  # of names there are few
def _name(name: object) -> bytes:
    if not isinstance(name, str):
        raise EncodeError(f"a header's name must be text, not {name!r}")
    return encode_short(name)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _table(table: Mapping[str, Any], depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise EncodeError(f"headers are nested more than {_MAX_DEPTH} deep")
    parts: list[bytes] = []
    for name, value in table.items():
        parts.append(_name(name))
        # Nearly all headers are text or nothing: a call less for each.
        if type(value) is str:
            data = _utf8(value)
            parts += (_LONG_LETTER.pack(b"S", len(data)), data)
        elif value is None:
            parts.append(b"V")
        else:
            parts.append(_value(value, depth))
    data = b"".join(parts)
    return _U32.pack(len(data)) + data


def _value(value: Any, depth: int) -> bytes:
    kind = cast("type[object]", type(value))
    if kind is str:
        data = _utf8(value)
        return _LONG_LETTER.pack(b"S", len(data)) + data
    if value is None:
        return b"V"
    if kind is bool:
        return b"t\1" if value else b"t\0"
    if kind is int:
        return _integer(value)
    if kind is dict or (kind is not list and isinstance(value, Mapping)):
        return b"F" + _table(cast("Mapping[str, Any]", value), depth + 1)
    if isinstance(value, list | tuple):
        if depth >= _MAX_DEPTH:
            raise EncodeError(f"headers are nested more than {_MAX_DEPTH} deep")
        data = b"".join([_value(item, depth + 1) for item in cast("Sequence[Any]", value)])
        return _LONG_LETTER.pack(b"A", len(data)) + data
    return _rare(value)


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return _INT32_LETTER.pack(b"I", value)
    try:
        return _INT64_LETTER.pack(b"l", value)
    except error:
        raise EncodeError(f"a header holds an integer beyond 64 bits: {value:.3e}") from None


def _rare(value: Any) -> bytes:
    match value:
        case float():
            if not isfinite(value):  # RabbitMQ would end the connection
                raise EncodeError(f"a header holds {value}, for which AMQP has no number")
            return _FLOAT_LETTER.pack(b"d", value)
        case str():  # a subclass
            return _value(str(value), 0)
        case int():
            return _integer(int(value))
        case bytes():
            return _LONG_LETTER.pack(b"S", len(value)) + value
        case datetime():
            return _time(value)
        case Decimal():
            return _decimal(value)
        case _:
            raise EncodeError(f"a header holds a {type(value).__name__}, for which AMQP has no type")


def _time(value: datetime) -> bytes:
    try:
        return _TIME_LETTER.pack(b"T", int(value.timestamp()))
    except (error, OverflowError, ValueError):
        raise EncodeError(f"a header holds {value}, which is beyond AMQP's dates") from None


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise EncodeError(f"a header holds {value}, for which AMQP has no type")
    number = int("".join(map(str, digits)))
    number, scale = (number, -exponent) if exponent < 0 else (number * 10**exponent, 0)
    try:
        return b"D" + _DECIMAL.pack(scale, -number if sign else number)
    except error:
        raise EncodeError(f"a header holds {value}, which is beyond AMQP's decimals") from None


# -- reading ---------------------------------------------------------------------------------------------------


def read_short(data: bytes, offset: int) -> tuple[str, int]:
    """The short string at an offset, and the offset behind it. What is not UTF-8 is escaped for `encode_short`."""
    start = offset + 1
    end = start + data[offset]
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError:
        return data[start:end].decode("utf-8", "surrogateescape"), end


def skip_short(data: bytes, offset: int) -> int:
    """The offset behind the short string at an offset."""
    return offset + 1 + data[offset]


def decode_table(data: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """The table at an offset, and the offset behind it. Raises DecodeError."""
    try:
        return _read_table(data, offset, 0)
    except (error, IndexError, KeyError, UnicodeDecodeError, ValueError, OverflowError) as fault:
        raise DecodeError(f"malformed header table: {fault}") from fault


def _read_table(data: bytes, offset: int, depth: int) -> tuple[dict[str, Any], int]:
    end = _U32.unpack_from(data, offset)[0] + offset + 4
    offset += 4
    table: dict[str, Any] = {}
    while offset < end:
        start = offset + 1
        offset = start + data[offset]
        try:
            name = data[start:offset].decode()
        except UnicodeDecodeError:
            name = data[start:offset].decode("utf-8", "surrogateescape")
        # Nearly all headers are text or nothing: a call less for each.
        letter = data[offset]
        if letter == 0x53:  # S
            start = offset + 5
            offset = start + _U32.unpack_from(data, offset + 1)[0]
            table[name] = _text(data[start:offset])
        elif letter == 0x56:  # V
            table[name] = None
            offset += 1
        else:
            table[name], offset = _read_value(data, offset, depth)
    return table, end


def _read_value(data: bytes, offset: int, depth: int) -> tuple[Any, int]:
    letter = data[offset]
    offset += 1
    if letter == 0x53:  # S
        start = offset + 4
        end = start + _U32.unpack_from(data, offset)[0]
        return _text(data[start:end]), end
    if letter == 0x56:  # V
        return None, offset
    fixed = _FIXED.get(letter)
    if fixed is not None:
        return fixed.unpack_from(data, offset)[0], offset + fixed.size
    if letter == 0x74:  # t
        return data[offset] != 0, offset + 1
    if depth >= _MAX_DEPTH:
        raise DecodeError(f"headers are nested more than {_MAX_DEPTH} deep")
    return _READERS[letter](data, offset, depth + 1)


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _read_array(data: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    end = _U32.unpack_from(data, offset)[0] + offset + 4
    offset += 4
    items: list[Any] = []
    while offset < end:
        item, offset = _read_value(data, offset, depth)
        items.append(item)
    return items, end


def _read_bytes(data: bytes, offset: int, depth: int) -> tuple[bytes, int]:  # noqa: ARG001 - a reader's signature
    end = _U32.unpack_from(data, offset)[0] + offset + 4
    return data[offset + 4 : end], end


def _read_time(data: bytes, offset: int, depth: int) -> tuple[datetime | int, int]:  # noqa: ARG001
    """A date, or the number where that is none: clients of other languages write milliseconds."""
    seconds = _U64.unpack_from(data, offset)[0]
    try:
        return datetime.fromtimestamp(seconds, UTC), offset + 8
    except (OverflowError, ValueError, OSError):
        return seconds, offset + 8


def _read_decimal(data: bytes, offset: int, depth: int) -> tuple[Decimal, int]:  # noqa: ARG001
    scale, number = _DECIMAL.unpack_from(data, offset)
    return Decimal(number).scaleb(-scale), offset + 5


_READERS: Mapping[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    ord("F"): _read_table,
    ord("A"): _read_array,
    ord("x"): _read_bytes,
    ord("T"): _read_time,
    ord("D"): _read_decimal,
}
