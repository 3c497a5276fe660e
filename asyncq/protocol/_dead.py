"""Dead letters (design.md, Names and defaults)."""

from __future__ import annotations

from msgspec.structs import replace

from asyncq.errors import DecodeError
from asyncq.protocol._envelope import decode_envelope
from asyncq.protocol._headers import DEAD_HEADER
from asyncq.protocol._serializers import RAW
from asyncq.protocol._types import WireMessage

#: Of a reason; it may quote an exception of any length.
_MAX_REASON = 1024


def dead_letter(content: bytes | WireMessage, *, queue: str, reason: str, at: float, attempts: int) -> WireMessage:
    """The letter to put away for a message that nobody will run.

    It is the message as it came, with one header more: `asyncq-dead`, an object of `reason`, `time` (`at`, UNIX
    seconds), `attempts` and `queue`. What is no envelope becomes, byte for byte, the body of a message of content type
    `application/data`.

    Raises nothing on account of what the content is.
    """
    notice = {"reason": reason[:_MAX_REASON], "time": at, "attempts": attempts, "queue": queue}
    if isinstance(content, bytes):
        try:
            wire = decode_envelope(content)
        except DecodeError:
            return WireMessage(
                content, {DEAD_HEADER: notice}, content_type=RAW.content_type, content_encoding=RAW.content_encoding
            )
    else:
        wire = content
    return replace(wire, headers={**wire.headers, DEAD_HEADER: notice})
