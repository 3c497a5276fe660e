"""AMQP 0-9-1's frames. Methods are pamqp's; what is sent and read for each message is written out here, for speed."""

from __future__ import annotations

from struct import Struct as Layout
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from pamqp import commands
from pamqp import frame as pamqp_frame

from .tables import encode_short, skip_short

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = [
    "BODY",
    "Closing",
    "FRAME_END",
    "FRAME_HEAD",
    "HEADER",
    "HEARTBEAT",
    "Index",
    "METHOD",
    "encode_content_frames",
    "encode_method",
    "encode_publish",
    "encode_route",
    "frame",
    "read_closing",
    "read_method",
]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


class Index:
    """The methods that are told apart by their number: class and method, 16 bits each."""

    START, TUNE, OPEN_OK = 10 << 16 | 10, 10 << 16 | 30, 10 << 16 | 41
    CONNECTION_CLOSE, CONNECTION_CLOSE_OK = 10 << 16 | 50, 10 << 16 | 51
    BLOCKED, UNBLOCKED = 10 << 16 | 60, 10 << 16 | 61
    FLOW, CHANNEL_CLOSE, CHANNEL_CLOSE_OK = 20 << 16 | 20, 20 << 16 | 40, 20 << 16 | 41
    CANCEL, RETURN, DELIVER, GET_OK = 60 << 16 | 30, 60 << 16 | 50, 60 << 16 | 60, 60 << 16 | 71
    ACK, NACK = 60 << 16 | 80, 60 << 16 | 120


#: Kind, channel, size of the payload.
FRAME_HEAD = Layout(">BHI")
FRAME_END = 0xCE
_END = b"\xce"

#: basic.publish, and its unused ticket.
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"
#: An unroutable message comes back.
_MANDATORY = b"\x01"


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One whole frame."""
    return FRAME_HEAD.pack(kind, channel, len(payload)) + payload + _END


def encode_method(method: Frame, channel: int) -> bytes:
    """A method as a whole frame. Raises ValueError for a name that AMQP doesn't allow."""
    return pamqp_frame.marshal(method, channel)


def read_method(payload: bytes) -> Any:  # Any: one of pamqp's classes, which the caller knows
    """The method of a frame's payload."""
    method = commands.INDEX_MAPPING[int.from_bytes(payload[:4])]()
    method.unmarshal(payload[4:])
    return method


class Closing(Struct):
    """Why the server ends a channel, or the connection."""

    code: int
    text: str
    #: What has led to it: class and method, 16 bits each.
    method: int


def read_closing(payload: bytes) -> Closing:
    """channel.close or connection.close. Its text quotes names, and may be cut within a character."""
    end = skip_short(payload, 6)
    text = payload[7:end].decode("utf-8", "replace")
    return Closing(int.from_bytes(payload[4:6]), text, int.from_bytes(payload[end : end + 4]))


def encode_route(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as methods have them. Raises EncodeError for names that are too long."""
    return encode_short(exchange) + encode_short(routing_key)


def encode_publish(route: bytes, channel: int) -> bytes:
    """basic.publish, mandatory, as a whole frame."""
    payload = _PUBLISH + route + _MANDATORY
    return FRAME_HEAD.pack(METHOD, channel, len(payload)) + payload + _END


def encode_content_frames(parts: list[bytes], header: bytes, body: bytes, channel: int, most: int) -> None:
    """Append content header and body, in frames of at most `most` bytes."""
    parts += (FRAME_HEAD.pack(HEADER, channel, len(header)), header, _END)
    if len(body) <= most:
        if body:
            parts += (FRAME_HEAD.pack(BODY, channel, len(body)), body, _END)
        return
    for start in range(0, len(body), most):
        chunk = body[start : start + most]
        parts += (FRAME_HEAD.pack(BODY, channel, len(chunk)), chunk, _END)
