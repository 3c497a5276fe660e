"""What a stored record says, whoever wrote it."""

from __future__ import annotations

from asyncq.errors import DecodeError
from asyncq.protocol import decode_result

__all__ = ["status_of"]

#: Serialisers that a foreign record may be decoded with, to see its state. Pickle is not among them.
_ACCEPT = ("json", "msgpack", "yaml")


def status_of(record: bytes | None) -> str | None:
    """The record's state; None for what can't be decoded (a pickle, a stranger's key), and where there is none."""
    if record is None:
        return None
    try:
        return decode_result(record, accept=_ACCEPT).status
    except DecodeError:
        return None
