"""What client and server agree on when a connection begins."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Terms"]

#: What RabbitMQ offers by default; a server with less is obeyed.
_FRAME_MAX = 131_072
_CHANNEL_MAX = 2047

#: RabbitMQ's default for a message's body, up to 3.13 and from 4.0 on.
_BODY_MAX, _BODY_MAX_OF_4 = 128 * 1024 * 1024, 16 * 1024 * 1024


class Terms(Struct, frozen=True, kw_only=True):
    """Limits of one connection."""

    #: Bytes of a frame.
    frame_max: int = _FRAME_MAX
    channel_max: int = _CHANNEL_MAX
    #: Bytes of a message's body. No server tells: what its version takes by default.
    body_max: int = _BODY_MAX
    #: Seconds, twice which of silence end the connection; 0: nobody minds.
    heartbeat: int = 0

    @property
    def payload_max(self) -> int:
        """Bytes that fit into one frame; a content header has to."""
        return self.frame_max - 8

    def with_start(self, start: Any) -> Terms:  # Any: pamqp's Connection.Start
        """The server has named itself."""
        is_3 = str(start.server_properties.get("version")).startswith("3.")
        return replace(self, body_max=_BODY_MAX if is_3 else _BODY_MAX_OF_4)

    def with_tune(self, tune: Any, heartbeat: int) -> Terms:  # Any: pamqp's Connection.Tune
        """The server has offered limits; 0 is none, as for our own `heartbeat`."""
        return replace(
            self,
            frame_max=min(_FRAME_MAX, tune.frame_max or _FRAME_MAX),
            channel_max=min(_CHANNEL_MAX, tune.channel_max or _CHANNEL_MAX),
            heartbeat=min((seconds for seconds in (tune.heartbeat, heartbeat) if seconds), default=0),
        )
