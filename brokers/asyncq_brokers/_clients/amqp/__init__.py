"""What asyncq's AMQP broker and its `rpc://` result backend share: URL, options, connections, errors."""

from .channel import UNROUTABLE, Channel, Incoming, Outgoing
from .connection import Connection
from .content import decode_content, encode_content_header
from .endpoint import Endpoint, parse_endpoints
from .errors import Blocked, ConnectionLost, Refused
from .link import Link
from .options import read_backend_config, read_broker_config

__all__ = [
    "UNROUTABLE",
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
    "read_backend_config",
    "read_broker_config",
]
