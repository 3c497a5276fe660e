"""What result backends keep: values that are serialised, maybe compressed, and don't say how (results.md, 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._compression import compress, decompress
from asyncq.protocol._serializers import JSON, MSGPACK, PICKLE, YAML, Serializer, serializer_for
from asyncq.protocol._types import Limits

#: In front of what is compressed, followed by the content type of the compression and a NUL.
_COMPRESSED = b"\x00celery-compressed\x00"


def frame(encoded: bytes, compression: str | None, limits: Limits) -> bytes:
    """The bytes to be stored. Raises EncodeError: beyond `limits`, an unknown compression."""
    if compression is not None:
        packed = compress(encoded, compression, limits)
        if packed is not None:
            encoded = b"%b%b\x00%b" % (_COMPRESSED, packed[1].encode(), packed[0])
    if len(encoded) > limits.max_message_bytes:
        raise EncodeError(f"the record takes {len(encoded)} bytes, {limits.max_message_bytes} are allowed")
    return encoded


def decode_stored(raw: bytes, limits: Limits, accept: Collection[str]) -> Any:  # a user's value: of any type
    """The value of stored bytes. Raises DecodeError, and nothing else, whatever comes in."""
    if len(raw) > limits.max_message_bytes:
        raise DecodeError(f"the record has {len(raw)} bytes, {limits.max_message_bytes} are allowed")
    try:
        if raw.startswith(_COMPRESSED):
            name, _, packed = raw[len(_COMPRESSED) :].partition(b"\x00")
            raw, _ = decompress(packed, name.decode("ascii", "replace"), limits)
        return serializer_for(_guess(raw).content_type, accept).decode(raw, limits)
    except (RecursionError, MemoryError) as exc:
        raise DecodeError(f"too large to decode: {type(exc).__name__}") from exc


def _guess(raw: bytes) -> Serializer:
    """A map of several fields, or a list of some, and each serialiser begins these in its own way."""
    first = raw[:1]
    if first in (b"{", b"["):
        return JSON
    if first == b"\x80":  # an *empty* map in msgpack
        return PICKLE
    return MSGPACK if first > b"\x80" else YAML
