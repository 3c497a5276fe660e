"""Where a Redis server is: from a URL as Celery writes it to a connection of redis-py.

Forms: `redis://user:password@host:6379/0`, `rediss://…` (TLS), `redis+socket:///path/to.sock?virtual_host=0`. Unlike
kombu, TLS verifies the server's certificate and name unless the URL or the settings say otherwise.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
from msgspec import Struct, field, structs
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from asyncq.errors import ConfigurationError

__all__ = ["AnyConnection", "Endpoint", "parse_endpoint"]

AnyConnection: TypeAlias = Connection | UnixDomainSocketConnection

_SCHEMES = ("redis", "rediss", "redis+socket")

#: Celery's words and redis-py's for how far a certificate is checked.
_CERT_REQS: Mapping[object, str] = {
    "CERT_REQUIRED": "required",
    "CERT_OPTIONAL": "optional",
    "CERT_NONE": "none",
    "required": "required",
    None: "required",
    "optional": "optional",
    "none": "none",
    ssl.CERT_REQUIRED: "required",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_NONE: "none",
}

#: A connection that nobody answers on is given up by our own deadlines. These make the system let go of its socket too,
#: which would keep unsent bytes, and a descriptor, for a quarter of an hour: seconds, seconds, probes, milliseconds.
_TCP_OPTIONS: Mapping[int, int] = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}.items()
    if hasattr(socket, name)  # by system
}

#: TLS arguments, all of which redis-py knows from 5.2 on.
_TLS_ARGUMENTS = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)


def _describe_library() -> Mapping[str, object]:
    """What the server shows beside the client's name. Left to itself, redis-py opens a file a connection to know it."""
    ours = version("asyncq")
    try:
        from redis.driver_info import DriverInfo
    except ImportError:
        return {"lib_name": f"redis-py(asyncq_v{ours})", "lib_version": redis.__version__}
    return {"driver_info": DriverInfo(lib_version=redis.__version__).add_upstream_driver("asyncq", ours)}


_LIBRARY = _describe_library()


class Endpoint(Struct, frozen=True, kw_only=True):
    """One database of one server, and how to reach it."""

    host: str = "localhost"
    port: int = 6379
    #: Path of a Unix socket, which takes the place of host and port.
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = None
    #: redis-py's `ssl_*` arguments; None is plain TCP.
    tls: Mapping[str, Any] | None = None
    #: How the server's `CLIENT LIST` shows us.
    client_name: str | None = None
    #: Socket options of TCP, by number, over our own.
    keepalive_options: Mapping[int, int] = field(default_factory=dict[int, int])
    #: What else stood in the query: transport options.
    query: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"

    @property
    def address(self) -> str:
        """The URL without user, password and options."""
        if self.path is not None:
            return f"redis+socket://{self.path}?virtual_host={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'redis' if self.tls is None else 'rediss'}://{host}:{self.port}/{self.db}"

    def connection(self) -> AnyConnection:
        """A connection, not yet connected.

        redis-py's own time-outs and retries are off: it would re-send commands that take messages, and put a timer
        around each reply (measured: a blocking pop sent eleven times in 59 s). Our deadline stands above.
        """
        common: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "client_name": self.client_name,
            **_LIBRARY,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            # RESP3 gains nothing here, and redis-py drops its invalidation messages.
            "protocol": 2,
        }
        if self.path is not None:
            return UnixDomainSocketConnection(path=self.path, **common)
        common |= {"host": self.host, "port": self.port, "socket_keepalive": True}
        common["socket_keepalive_options"] = {**_TCP_OPTIONS, **self.keepalive_options}
        if self.tls is None:
            return Connection(**common)
        return SSLConnection(**common, **self.tls)


def parse_endpoint(url: str, tls: Mapping[str, Any] | bool | None = None) -> Endpoint:
    """Read a URL. `tls` is Celery's `broker_use_ssl` / `redis_backend_use_ssl`.

    Raises ConfigurationError, whose text never holds a password.
    """
    if ";" in url:
        msg = "several Redis URLs (a failover list) are not supported: give one"
        raise ConfigurationError(msg)
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        msg = f"not a Redis URL: its scheme is {parts.scheme!r}; known are {', '.join(_SCHEMES)}"
        raise ConfigurationError(msg)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    arguments = _tls_arguments(parts.scheme, query, tls)
    endpoint = Endpoint(
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=arguments,
    )
    if parts.scheme == "redis+socket":
        if arguments is not None:
            raise ConfigurationError("redis+socket:// has no TLS")
        path, db = unquote(parts.path), query.pop("virtual_host", None) or query.pop("db", None) or "0"
        if not path:
            raise ConfigurationError("redis+socket:// needs a path: redis+socket:///run/redis.sock")
        return structs.replace(endpoint, path=path, db=_database(db), query=query)
    db = query.pop("db", None) or parts.path.strip("/") or "0"
    return structs.replace(endpoint, host=_host(parts), port=_port(parts), db=_database(db), query=query)


def _host(parts: SplitResult) -> str:
    return parts.hostname or "localhost"


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or 6379
    except ValueError:
        # The original text quotes the URL, where an unescaped password may have slipped into the port's place.
        msg = "the Redis URL's port is not a number below 65536 (a password with / # ? : @ must be percent-encoded)"
        raise ConfigurationError(msg) from None


def _database(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ConfigurationError("the Redis URL's database must be a number, as in redis://localhost:6379/0")
    return number


def _tls_arguments(
    scheme: str, query: dict[str, str], setting: Mapping[str, Any] | bool | None
) -> dict[str, Any] | None:
    """Take the `ssl_*` arguments out of a query and lay the setting over them. None: no TLS."""
    given: dict[str, Any] = {name: query.pop(name) for name in list(query) if name.startswith("ssl_")}
    if isinstance(setting, Mapping):
        given |= setting
    if scheme != "rediss" and not given and not setting:
        return None
    unknown = sorted(given.keys() - _TLS_ARGUMENTS)
    if unknown:
        known = ", ".join(sorted(_TLS_ARGUMENTS))
        msg = f"unknown TLS arguments for Redis: {', '.join(unknown)}; known are {known}"
        raise ConfigurationError(msg)
    try:
        required = _CERT_REQS[given.pop("ssl_cert_reqs", "required")]
    except (KeyError, TypeError):
        raise ConfigurationError("ssl_cert_reqs must be one of required, optional, none") from None
    check = given.pop("ssl_check_hostname", True)
    if isinstance(check, str):
        check = check.lower() not in {"0", "f", "false", "n", "no"}
    return {**given, "ssl_cert_reqs": required, "ssl_check_hostname": check and required != "none"}
