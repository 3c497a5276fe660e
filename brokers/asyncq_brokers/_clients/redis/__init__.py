"""What asyncq's Redis broker and Redis result backend share: URL, options, connections, scripts, errors."""

from asyncq_brokers._clients.error_family import BACKEND_ERRORS, BROKER_ERRORS, ErrorFamily

from .coordination import RedisCoordination
from .endpoint import Endpoint, parse_endpoint
from .errors import translate
from .link import Link, Script, load_scripts
from .options import BackendOptions, BrokerOptions, QueueOrder, read_backend_config, read_broker_config
from .server import ServerInfo, check_server
from .session import Command, Session

__all__ = [
    "BACKEND_ERRORS",
    "BROKER_ERRORS",
    "BackendOptions",
    "BrokerOptions",
    "Command",
    "Endpoint",
    "ErrorFamily",
    "Link",
    "QueueOrder",
    "RedisCoordination",
    "Script",
    "ServerInfo",
    "Session",
    "check_server",
    "load_scripts",
    "parse_endpoint",
    "read_backend_config",
    "read_broker_config",
    "translate",
]
