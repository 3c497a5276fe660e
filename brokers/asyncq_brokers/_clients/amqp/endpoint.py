"""Where a RabbitMQ is: from a URL as Celery writes it to a connected socket.

Forms: `amqp://user:password@host:5672/vhost`, `pyamqp://…` (the same), `amqps://…` (TLS), several with `;` between them
(a failover list). Unlike Celery, TLS verifies the server's certificate *and* its name unless the URL or the settings
say otherwise.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct
from pamqp import commands

from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.resolve import resolve

from .errors import ConnectionLost
from .tls import tls_context

__all__ = ["Endpoint", "parse_endpoints", "seconds", "split_urls", "take_query"]

_SCHEMES = ("amqp", "amqps", "pyamqp")

#: Seconds without a sign of life, twice which end a connection.
HEARTBEAT = 30

#: The system shall let go of a dead socket, too: seconds, seconds, probes, milliseconds.
_TCP_OPTIONS: Mapping[int, int] = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}.items()
    if hasattr(socket, name)  # by system
}


class Endpoint(Struct, frozen=True, kw_only=True):
    """One virtual host of one server, and how to reach it."""

    host: str = "localhost"
    port: int = 5672
    vhost: str = "/"
    username: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default
    #: None is plain TCP.
    tls: ssl.SSLContext | None = None
    #: The name that the certificate must have, where it is not the host's.
    server_hostname: str | None = None
    #: PLAIN, or EXTERNAL: the client certificate says who we are.
    login_method: str = "PLAIN"
    heartbeat: int = HEARTBEAT
    #: How the server's list of connections shows us.
    client_name: str = "asyncq"

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"

    @property
    def address(self) -> str:
        """The URL without user, password and options."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else self.vhost
        return f"{'amqp' if self.tls is None else 'amqps'}://{host}:{self.port}/{vhost}"

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Connect the protocol to the first address of the host that accepts. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await resolve(self.host, self.port)
        while True:
            address = addresses.pop(0)
            try:
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    address,
                    self.port,
                    ssl=self.tls,
                    server_hostname=None if self.tls is None else self.server_hostname or self.host,
                )
            except ssl.SSLError:
                raise
            except OSError:
                if not addresses:
                    raise
            else:
                _set_options(transport.get_extra_info("socket"))
                return

    def start_ok(self, start: Any) -> commands.Connection.StartOk:  # Any: pamqp's Connection.Start
        """Who we are. Raises ConnectionLost where the server wants it in another way."""
        mechanisms = str(start.mechanisms).split()
        if self.login_method not in mechanisms:
            raise ConnectionLost(f"RabbitMQ at {self.address} knows {mechanisms}, not {self.login_method}")
        response = "" if self.login_method == "EXTERNAL" else f"\0{self.username}\0{self.password}"
        return commands.Connection.StartOk(
            {
                "product": "asyncq",
                "connection_name": self.client_name,
                "capabilities": {
                    "consumer_cancel_notify": True,
                    "connection.blocked": True,
                    "authentication_failure_close": True,
                },
            },
            self.login_method,
            response,
            "en_US",
        )


def parse_endpoints(url: str, tls: Mapping[str, Any] | bool | None, client_name: str) -> list[Endpoint]:
    """Read a URL, or several with `;` between them. `tls` is Celery's `broker_use_ssl`.

    Raises ConfigurationError, whose text never holds a password.
    """
    return [_parse(one, tls, client_name) for one in split_urls(url)]


def split_urls(url: str) -> list[str]:
    """The URLs of a failover list."""
    return [one.strip() for one in url.split(";") if one.strip()]


def take_query(url: str) -> dict[str, str]:
    """What stands in the query of one URL and is no matter of TLS: transport options."""
    query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    return {name: value for name, value in query.items() if not name.startswith("ssl_")}


def _parse(url: str, setting: Mapping[str, Any] | bool | None, client_name: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"not an AMQP URL: its scheme is {parts.scheme!r}; known are {', '.join(_SCHEMES)}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    given: dict[str, Any] = {
        name.removeprefix("ssl_"): value for name, value in query.items() if name.startswith("ssl_")
    }
    if isinstance(setting, Mapping):
        given |= setting
    encrypted = parts.scheme == "amqps" or bool(given) or bool(setting)
    context, server_hostname = tls_context(given) if encrypted else (None, None)
    return Endpoint(
        host=parts.hostname or "localhost",
        port=_port(parts, 5671 if encrypted else 5672),
        vhost=unquote(parts.path[1:]) or "/",
        username=unquote(parts.username) if parts.username else "guest",
        password="guest" if parts.password is None else unquote(parts.password),
        tls=context,
        server_hostname=server_hostname,
        client_name=client_name,
    )


def _port(parts: SplitResult, default: int) -> int:
    try:
        return parts.port or default
    except ValueError:
        # The original text quotes the URL, where an unescaped password may have slipped into the port's place.
        msg = "the AMQP URL's port is not a number below 65536 (a password with / # ? : @ must be percent-encoded)"
        raise ConfigurationError(msg) from None


def seconds(value: object) -> int:
    """A heartbeat. Raises ConfigurationError."""
    text = str(value)
    if not text.isdigit() or int(text) > 65535:
        raise ConfigurationError("heartbeat must be a number of seconds, 0 to 65535 (0: none)")
    return int(text)


def _set_options(sock: Any) -> None:  # Any: asyncio's TransportSocket, or what another loop has for it
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number, value in _TCP_OPTIONS.items():
        sock.setsockopt(socket.IPPROTO_TCP, number, value)
