"""Celery's transport options for Redis, read once and checked.

Each option is honoured, named in a warning with the reason why it has no effect here, or refused: none is dropped in
silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias, cast

from msgspec import Struct, structs

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError

from .endpoint import Endpoint, parse_endpoint

__all__ = ["BackendOptions", "BrokerOptions", "QueueOrder", "read_backend_config", "read_broker_config"]

logger = logging.getLogger(__name__)

QueueOrder: TypeAlias = Literal["round_robin", "priority", "sorted"]

_ONE_DEADLINE = "asyncq's own `timeout` stands around every call"
_OWN_CONNECTIONS = "asyncq shares one pipelined connection among all callers"
_OWN_RETRIES = "asyncq has retry rules of its own"
_OWN_CHECKS = "asyncq checks its connections in its own rhythm"
_NO_BROADCAST = "asyncq sends no broadcasts yet"

#: Options that Celery knows and that mean nothing here, each with its reason.
_WITHOUT_EFFECT: Mapping[str, str] = {
    "socket_timeout": _ONE_DEADLINE,
    "socket_connect_timeout": _ONE_DEADLINE,
    "timeout": _ONE_DEADLINE,
    "max_connections": _OWN_CONNECTIONS,
    "socket_read_size": _OWN_CONNECTIONS,
    "protocol": _OWN_CONNECTIONS,
    "health_check_interval": _OWN_CHECKS,
    "reauth_check_interval": _OWN_CHECKS,
    "retry_on_timeout": _OWN_RETRIES,
    "retry_policy": _OWN_RETRIES,
    "max_retries": _OWN_RETRIES,
    "interval_start": _OWN_RETRIES,
    "interval_step": _OWN_RETRIES,
    "interval_max": _OWN_RETRIES,
    "errback": _OWN_RETRIES,
    "ack_emulation": "asyncq always records what it takes",
    "unacked_restore_limit": "asyncq restores in batches of its own",
    "unacked_restore_interval": "asyncq restores in its own rhythm",
    "unacked_restore_throttle": "asyncq restores in its own rhythm",
    "brpop_timeout": "asyncq does not wait by BRPOP",
    "polling_interval": "asyncq does not poll",
    "body_encoding": "asyncq always sends bodies as base64, which every kombu reads",
    "deadletter_queue": "asyncq puts a message that no binding takes into the queue that it names",
    "fanout_prefix": _NO_BROADCAST,
    "fanout_patterns": _NO_BROADCAST,
    "sentinel_fanout_compat": _NO_BROADCAST,
    "result_chord_ordered": "it is an option of the result backend",
}

_NOT_SUPPORTED: Mapping[str, str] = {
    "master_name": "Redis Sentinel",
    "sentinel_kwargs": "Redis Sentinel",
    "min_other_sentinels": "Redis Sentinel",
    "credential_provider": "a credential provider",
}


class BrokerOptions(Struct, frozen=True, kw_only=True):
    """How messages lie on the server. All who share the queues must agree. Defaults are kombu's."""

    #: Put before every key as it is.
    global_keyprefix: str = ""
    #: Ascending; the nearest step at or below a message's priority is its list.
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    #: Between queue and priority step, and between the parts of a binding.
    sep: str = "\x06\x16"
    #: Seconds after which Celery takes a delivery for lost.
    visibility_timeout: float = 3600.0
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    unacked_mutex_key: str = "unacked_mutex"
    #: Seconds.
    unacked_mutex_expire: float = 300.0
    #: How queues follow each other within a priority step.
    queue_order_strategy: QueueOrder = "round_robin"


class BackendOptions(Struct, frozen=True, kw_only=True):
    """How results lie on the server."""

    #: Put before every key and channel, with an underscore unless it ends in one of `: _ - .`.
    global_keyprefix: str = ""
    #: Chords get their header's results in the order of the header; else in that of their ends. All workers must agree.
    result_chord_ordered: bool = True

    @property
    def prefix(self) -> str:
        """What really stands before a key."""
        joined = not self.global_keyprefix or self.global_keyprefix[-1] in ":_-."
        return self.global_keyprefix if joined else f"{self.global_keyprefix}_"


def read_broker_config(config: DriverConfig) -> tuple[Endpoint, BrokerOptions]:
    """Read URL and `broker_transport_options`. Raises ConfigurationError that names what is wrong."""
    endpoint, given = _read(config, "broker_transport_options", _BROKER_FIELDS)
    return endpoint, BrokerOptions(**given)


def read_backend_config(config: DriverConfig) -> tuple[Endpoint, BackendOptions]:
    """Read URL and `result_backend_transport_options`. Raises ConfigurationError that names what is wrong."""
    endpoint, given = _read(config, "result_backend_transport_options", _BACKEND_FIELDS)
    return endpoint, BackendOptions(**given)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be text")
    return value


def _name(value: object) -> str:
    if not _text(value):
        raise ValueError("must not be empty")
    return _text(value)


def _seconds(value: Any) -> float:  # Any: whatever stands in the user's settings
    seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return seconds


def _steps(value: object) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise TypeError("must be a list of numbers")
    steps = sorted({int(step) for step in cast("Collection[Any]", value)})
    if not steps or steps[0] < 0 or steps[-1] > 9:
        raise ValueError("must be a list of numbers from 0 to 9")
    return tuple(steps)


def _flag(value: object) -> bool:
    if isinstance(value, str) and value.lower() in {"true", "false"}:  # in a URL
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value


def _order(value: object) -> str:
    if value not in {"round_robin", "priority", "sorted"}:
        raise ValueError("must be round_robin, priority or sorted")
    return str(value)


_BROKER_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "global_keyprefix": _text,
    "priority_steps": _steps,
    "sep": _name,
    "visibility_timeout": _seconds,
    "unacked_key": _name,
    "unacked_index_key": _name,
    "unacked_mutex_key": _name,
    "unacked_mutex_expire": _seconds,
    "queue_order_strategy": _order,
}
_BACKEND_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "global_keyprefix": _text,
    "result_chord_ordered": _flag,
}


def _read(
    config: DriverConfig, setting: str, fields: Mapping[str, Callable[[Any], Any]]
) -> tuple[Endpoint, dict[str, Any]]:
    endpoint = parse_endpoint(config.url, config.tls)
    options: dict[str, Any] = {**endpoint.query, **config.options}
    client_name = options.pop("client_name", None) or f"asyncq:{config.app}"
    keepalive: Any = options.pop("socket_keepalive_options", None) or {}
    if not isinstance(keepalive, Mapping):
        raise ConfigurationError(
            f"{setting}['socket_keepalive_options']: must be a mapping of option numbers to values"
        )
    if not options.pop("socket_keepalive", True):
        logger.warning("%s['socket_keepalive'] has no effect: asyncq keeps its connections alive", setting)
    endpoint = structs.replace(
        endpoint,
        # CLIENT SETNAME takes printable ASCII without spaces, and refuses the connection otherwise.
        client_name="".join(c if "!" <= c <= "~" else "-" for c in str(client_name)),
        keepalive_options=keepalive,
    )
    given: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in options.items():
        if name in fields:
            try:
                given[name] = fields[name](value)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"{setting}[{name!r}]: {error}") from None
        elif name in _NOT_SUPPORTED:
            raise ConfigurationError(f"{setting}[{name!r}]: {_NOT_SUPPORTED[name]} is not supported")
        elif name in _WITHOUT_EFFECT:
            logger.warning("%s[%r] has no effect: %s", setting, name, _WITHOUT_EFFECT[name])
        elif name in _BROKER_FIELDS:  # Celery's documentation has users repeat visibility_timeout for the backend
            logger.warning("%s[%r] has no effect: it is an option of the broker", setting, name)
        else:
            unknown.append(repr(name))
    if unknown:
        known = ", ".join(sorted(fields))
        raise ConfigurationError(f"{setting}: unknown for Redis: {', '.join(sorted(unknown))}; known are {known}")
    return endpoint, given
