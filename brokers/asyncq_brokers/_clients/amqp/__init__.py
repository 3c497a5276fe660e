"""What asyncq's AMQP broker and its `rpc://` result backend share: URL, options, connections, errors."""

from .channel import Channel, Incoming, Outgoing
from .connection import Connection
from .content import decode_content, encode_content_header
from .endpoint import Endpoint, parse_endpoints, take_query
from .errors import Blocked, ConnectionLost, Refused
from .link import Link

__all__ = [
    "Blocked",
    "Channel",
    "Connection",
    "ConnectionLost",
    "Endpoint",
    "Incoming",
    "Link",
    "Outgoing",
    "Refused",
    "decode_content",
    "encode_content_header",
    "parse_endpoints",
    "take_query",
]
