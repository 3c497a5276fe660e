"""Dead letters (design.md, Names and defaults)."""

from __future__ import annotations

import sys
from math import isfinite
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from asyncq.errors import DecodeError
from asyncq.protocol._envelope import decode_envelope
from asyncq.protocol._headers import DEAD_HEADER, TRANSPORT_HEADERS
from asyncq.protocol._serializers import RAW
from asyncq.protocol._types import DEFAULT_LIMITS, Limits, WireMessage

#: Of a reason; it may quote an exception of any length.
_MAX_REASON = 1024

#: A letter is larger than its message, by the notice and, where that was too large to be taken apart, by base64.
_LETTER_LIMITS = Limits(max_message_bytes=sys.maxsize, max_headers=DEFAULT_LIMITS.max_headers + 1)


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that was put away, and what its notice says; None where it has none, or one that makes no sense."""

    #: The message as it came, without the notice: bytes where it was no envelope.
    content: bytes | WireMessage
    reason: str | None = None
    #: UNIX seconds.
    time: float | None = None
    #: Runs that it had.
    attempts: int | None = None


def dead_letter(content: bytes | WireMessage, *, queue: str, reason: str, at: float, attempts: int) -> WireMessage:
    """The letter to put away for a message that nobody will run.

    It is the message as it came, with one header more: `asyncq-dead`, an object of `reason`, `time` (`at`, UNIX
    seconds), `attempts` and `queue`. What is no envelope becomes, byte for byte, the body of a message of content type
    `application/data`, and the header says so by `raw`.

    Raises nothing on account of what the content is.
    """
    notice: dict[str, Any] = {"reason": reason[:_MAX_REASON], "time": at, "attempts": attempts, "queue": queue}
    if isinstance(content, bytes):
        try:
            wire = decode_envelope(content)
        except DecodeError:
            headers = {DEAD_HEADER: {**notice, "raw": True}}
            return WireMessage(content, headers, content_type=RAW.content_type, content_encoding=RAW.content_encoding)
    else:
        wire = content
    return replace(wire, headers={**wire.headers, DEAD_HEADER: notice})


def read_dead_letter(content: bytes | WireMessage) -> DeadLetter:
    """What `dead_letter` has put away. What somebody else put there is a letter too, without a notice.

    Raises nothing on account of what the content is.
    """
    if isinstance(content, bytes):
        try:
            wire = decode_envelope(content, limits=_LETTER_LIMITS)
        except DecodeError:
            return DeadLetter(content=content)
    else:
        wire = content
    found = wire.headers.get(DEAD_HEADER)
    if not isinstance(found, dict):
        return DeadLetter(content=wire)
    notice = cast("dict[str, Any]", found)
    if notice.get("raw") is True:
        came: bytes | WireMessage = wire.body
    else:
        came = replace(wire, headers={name: value for name, value in wire.headers.items() if name != DEAD_HEADER})
    reason, time, attempts = notice.get("reason"), notice.get("time"), notice.get("attempts")
    return DeadLetter(
        content=came,
        reason=reason if isinstance(reason, str) else None,
        time=time if isinstance(time, int | float) and isfinite(time) else None,
        attempts=attempts if isinstance(attempts, int) else None,
    )


def replay_of(letter: DeadLetter) -> bytes | WireMessage:
    """The message that gives a letter another life: the body's bytes as they came, its attempts counted anew.

    Every header stays but those that tell of the way so far, and `retries`, which is 0 again.
    """
    wire = letter.content
    if isinstance(wire, bytes):
        return wire
    headers = {name: value for name, value in wire.headers.items() if name not in TRANSPORT_HEADERS}
    if "retries" in headers:
        headers["retries"] = 0
    return replace(wire, headers=headers)
