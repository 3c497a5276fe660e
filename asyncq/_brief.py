"""What the process that cleans up after a dead worker needs to know, so that it need not import the user's code.

It stands in the worker's flight table (`asyncq._flight`), in memory that has no name: the passwords in it are in no
file, no argument and no environment.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from asyncq._drivers import is_reply_url
from asyncq.driver import DriverConfig, Environment

if TYPE_CHECKING:
    from asyncq._settings import Settings

__all__ = ["Brief", "Server", "brief_of", "decode_brief", "encode_brief"]

logger = logging.getLogger(__name__)

# `Any` below: a driver's own options, which it checks itself.


class Server(Struct, frozen=True, kw_only=True):
    """Where a driver is, and how it talks. `repr` shows nothing of it, since it carries passwords."""

    url: str
    options: dict[str, Any]
    tls: dict[str, Any] | bool | None

    def __repr__(self) -> str:
        return f"Server(scheme={self.url.partition(':')[0]!r})"

    def config(self, brief: Brief, environment: Environment) -> DriverConfig:
        """What a driver of it is made from: `make_broker` and `make_backend` of `asyncq._drivers` take it."""
        return DriverConfig(
            url=self.url,
            app=brief.app,
            environment=environment,
            options=self.options,
            tls=self.tls,
            timeout=brief.network_timeout,
        )


class Brief(Struct, frozen=True, kw_only=True):
    """An app's servers, and how its results are stored."""

    app: str
    broker: Server
    #: None: results are kept nowhere, or sent as replies (`rpc://`).
    backend: Server | None
    #: Seconds.
    network_timeout: float
    max_deliveries: int
    result_serializer: str
    result_compression: str | None
    #: Seconds; None keeps them for ever.
    result_expires: float | None
    #: Seconds for FAILURE; None means as `result_expires`.
    result_failure_expires: float | None
    #: Seconds east of UTC, of the dates in records.
    utc_offset: float

    @property
    def timezone(self) -> tzinfo:
        return timezone(timedelta(seconds=self.utc_offset))


def brief_of(app: str, settings: Settings, *, now: float) -> Brief | None:
    """What an app's settings say, at `now` (UNIX seconds); None where a driver isn't given by URL."""
    if not isinstance(settings.broker, str) or not isinstance(settings.backend, str | None):
        return None
    backend = None
    # Replies go to whoever sent a task, and who that was stands in its message alone.
    if settings.backend is not None and not is_reply_url(settings.backend):
        options = settings.result_backend_transport_options
        backend = Server(url=settings.backend, options=options, tls=settings.redis_backend_use_ssl)
    return Brief(
        app=app,
        broker=Server(url=settings.broker, options=settings.broker_options, tls=settings.broker_use_ssl),
        backend=backend,
        network_timeout=settings.network_timeout,
        max_deliveries=settings.max_deliveries,
        result_serializer=settings.result_serializer,
        result_compression=settings.result_compression,
        result_expires=settings.result_expires,
        result_failure_expires=settings.result_failure_expires,
        utc_offset=_utc_offset(settings.tzinfo, now),
    )


def encode_brief(brief: Brief | None) -> bytes:
    """The brief as JSON. Empty, with a line in the log, where there is none or where it doesn't fit into JSON.

    Then nobody can clean up after this worker at once, and its deliveries come back when their leases end.
    """
    if brief is None:
        reason = "the app was given a driver, or a callable that makes one, and no URL"
    else:
        try:
            # The standard library's: what isn't JSON (a certificate's store, say) must be an error and no text.
            return json.dumps(msgspec.structs.asdict(brief), default=_plain, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            reason = f"an option of a driver is no JSON ({error})"
    logger.warning("After the death of this process its tasks will wait for their leases to end: %s", reason)
    return b""


def decode_brief(raw: bytes) -> Brief | None:
    """Read what `encode_brief` wrote; None for an empty one. Raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=Brief) if raw else None


def _plain(value: object) -> Mapping[str, Any]:
    if isinstance(value, Server):
        return msgspec.structs.asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written")


def _utc_offset(zone: tzinfo, now: float) -> float:
    offset = datetime.fromtimestamp(now, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()
