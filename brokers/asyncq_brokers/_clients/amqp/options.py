"""Celery's transport options for AMQP, read once and checked.

Each option is honoured, named in a warning with the reason why it has no effect here, or refused: none is dropped in
silence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError

from .endpoint import Endpoint, parse_endpoints, seconds, split_urls, take_query

__all__ = ["read_backend_config", "read_broker_config"]

logger = logging.getLogger(__name__)

_ONE_DEADLINE = "asyncq's own `timeout` stands around every call"
_OWN_RETRIES = "asyncq has retry rules of its own"

#: AMQPLAIN, the name in many an old configuration, is user and password as well, and RabbitMQ takes them either way.
_LOGIN_METHODS: Mapping[str, str] = {"PLAIN": "PLAIN", "AMQPLAIN": "PLAIN", "EXTERNAL": "EXTERNAL"}

# `Any` below: the options are the user's own.

#: Options that Celery knows and that mean nothing here, each with its reason.
_WITHOUT_EFFECT: Mapping[str, str] = {
    "confirm_publish": "asyncq always waits for confirms",
    "confirm_timeout": _ONE_DEADLINE,
    "connect_timeout": _ONE_DEADLINE,
    "read_timeout": _ONE_DEADLINE,
    "write_timeout": _ONE_DEADLINE,
    "max_retries": _OWN_RETRIES,
    "interval_start": _OWN_RETRIES,
    "interval_step": _OWN_RETRIES,
    "interval_max": _OWN_RETRIES,
    "errback": _OWN_RETRIES,
    "client_properties": "asyncq names itself",
    "queue_declare_passive": "asyncq looks whether a queue is there where it may not declare it",
}


def read_broker_config(config: DriverConfig) -> list[Endpoint]:
    """Read URL and `broker_transport_options`. Raises ConfigurationError that names what is wrong."""
    return _read(config, "broker_transport_options")


def read_backend_config(config: DriverConfig) -> list[Endpoint]:
    """Read URL and `result_backend_transport_options`. Raises ConfigurationError that names what is wrong."""
    return _read(config, "result_backend_transport_options")


def _read(config: DriverConfig, setting: str) -> list[Endpoint]:
    given = [{**take_query(url), **config.options} for url in split_urls(config.url)]
    if not given:
        raise ConfigurationError("the AMQP URL is empty")
    for option in sorted({option for options in given for option in options if option in _WITHOUT_EFFECT}):
        logger.warning("%s[%r] has no effect: %s", setting, option, _WITHOUT_EFFECT[option])
    endpoints = parse_endpoints(config.url, config.tls, f"asyncq:{config.app}")
    return [
        structs.replace(endpoint, **_changes(options, setting))
        for endpoint, options in zip(endpoints, given, strict=True)
    ]


def _changes(given: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """What the options of one URL make of its endpoint."""
    options = {option: value for option, value in given.items() if option not in _WITHOUT_EFFECT}
    changes: dict[str, Any] = {}
    if client_name := options.pop("client_name", None):
        changes["client_name"] = str(client_name)
    if "heartbeat" in options:
        changes["heartbeat"] = seconds(options.pop("heartbeat"))
    if "login_method" in options:
        method = str(options.pop("login_method")).upper()
        if method not in _LOGIN_METHODS:
            raise ConfigurationError(f"{setting}['login_method'] must be PLAIN or EXTERNAL, not {method}")
        changes["login_method"] = _LOGIN_METHODS[method]
    if options:
        unknown = ", ".join(sorted(map(repr, options)))
        raise ConfigurationError(
            f"{setting}: unknown for AMQP: {unknown}; known are client_name, heartbeat, login_method"
        )
    return changes
