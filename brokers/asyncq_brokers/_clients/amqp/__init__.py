"""What asyncq's AMQP broker and its `rpc://` result backend share: URL, options, connections, errors."""

from .channel import Channel, Incoming
from .confirms import UNROUTABLE, Outgoing
from .connection import Connection
from .content import decode_content, encode_content_header
from .endpoint import Endpoint, parse_endpoints
from .errors import Blocked, ConnectionLost, Refused
from .frames import encode_route
from .link import Link
from .options import read_backend_config, read_broker_config
from .outlet import Outlet, Outlets
from .terms import Terms

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
    "Outlet",
    "Outlets",
    "Refused",
    "Terms",
    "decode_content",
    "encode_content_header",
    "encode_route",
    "parse_endpoints",
    "read_backend_config",
    "read_broker_config",
]
