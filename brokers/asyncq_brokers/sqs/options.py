"""Celery's transport options for SQS, read once and checked.

Each option is honoured, named in a warning with the reason why it has no effect here, or refused: none is dropped in
silence. Numbers and booleans may come as text, since teams read them from the environment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError
from msgspec import Struct, field

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import Account, read_flag, read_number, read_seconds, split_url

from .names import is_fifo

__all__ = ["LONGEST_WAIT", "MOST_SECONDS", "BrokerOptions", "PredefinedQueue", "read_config"]

logger = logging.getLogger(__name__)

#: The longest visibility timeout that SQS knows, counted from the receive (seconds).
MOST_SECONDS = 43_200

#: The longest long poll that SQS knows (seconds).
LONGEST_WAIT = 20

_SETTING = "broker_transport_options"
_OWN_CONNECTIONS = "asyncq has one client for all callers"
_ONE_DEADLINE = "asyncq's own `network_timeout` stands around every call"
_OWN_RETRIES = "asyncq has retry rules of its own"
_NO_BROADCAST = "asyncq sends no broadcasts over SQS"

#: Options that Celery knows and that mean nothing here, each with its reason.
_WITHOUT_EFFECT: Mapping[str, str] = {
    "asynchat": _OWN_CONNECTIONS,
    "max_connections": _OWN_CONNECTIONS,
    "socket_timeout": _ONE_DEADLINE,
    "connect_timeout": _ONE_DEADLINE,
    "max_retries": _OWN_RETRIES,
    "interval_start": _OWN_RETRIES,
    "interval_step": _OWN_RETRIES,
    "interval_max": _OWN_RETRIES,
    "retry_policy": _OWN_RETRIES,
    "body_encoding": "asyncq always sends bodies as base64, which every kombu reads",
    "fetch_message_attributes": "asyncq fetches what it needs",
    "supports_fanout": _NO_BROADCAST,
    "predefined_exchanges": _NO_BROADCAST,
    "sts_token_buffer_time": "credentials of a role are renewed before they run out",
    "queue_order_strategy": "all queues are asked at the same time",
}


class PredefinedQueue(Struct, frozen=True, kw_only=True):
    """A queue that exists, by its URL, for accounts that may neither list nor create queues. `repr` shows no secret."""

    url: str
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    #: Number of the receive -> seconds until a rejected message comes back, for tasks of `backoff_tasks`.
    backoff_policy: Mapping[int, int] = field(default_factory=dict[int, int])
    backoff_tasks: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"PredefinedQueue({self.url!r})"


class BrokerOptions(Struct, frozen=True, kw_only=True):
    """How messages lie on SQS. Defaults are kombu's where they are seen by others."""

    #: Seconds: the attribute of queues that are created here. Celery's workers rest on it, asyncq's on their leases.
    visibility_timeout: int = 1800
    #: Seconds of a long poll. kombu has 10; an idle queue costs three requests a minute at 20.
    wait_time_seconds: int = LONGEST_WAIT
    #: Seconds between an empty answer and the next poll. kombu has 1, which adds a second to what comes then.
    polling_interval: float = 0.0
    #: Put before every name.
    queue_name_prefix: str = ""
    #: By name, with the prefix. Where there are any, there are no others.
    predefined_queues: Mapping[str, PredefinedQueue] = field(default_factory=dict[str, PredefinedQueue])
    #: Further attributes and tags of queues that are created here.
    creation_attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    queue_tags: Mapping[str, str] = field(default_factory=dict[str, str])
    #: Messages as base64, as kombu has it. Without, a third more fits in; every reader knows both.
    base64: bool = True
    #: botocore's `Config`, without what is asyncq's.
    client_config: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return "BrokerOptions()"  # proxies of `client_config` may have passwords


def read_config(config: DriverConfig) -> tuple[Account, BrokerOptions]:
    """Read URL and `broker_transport_options`. Raises ConfigurationError that names what is wrong."""
    options = dict(config.options)
    account = _account(config.url, options)
    given: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in options.items():
        if name in _FIELDS:
            target, read = _FIELDS[name]
            try:
                given[target] = read(value)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"{_SETTING}[{name!r}]: {error}") from None
        elif name in _WITHOUT_EFFECT:
            logger.warning("%s[%r] has no effect: %s", _SETTING, name, _WITHOUT_EFFECT[name])
        else:
            unknown.append(repr(name))
    if unknown:
        known = ", ".join(sorted([*_FIELDS, "region", "is_secure", "sts_role_arn", "sts_token_timeout"]))
        raise ConfigurationError(f"{_SETTING}: unknown for SQS: {', '.join(sorted(unknown))}; known are {known}")
    return account, BrokerOptions(**given)


def _account(url: str, options: dict[str, Any]) -> Account:
    """The account of a URL and of the options that belong to it, which are taken out of them."""
    parts = split_url(url)
    region = options.pop("region", None)
    # kombu's default is plain HTTP wherever a host is named, and HTTPS where none is.
    try:
        secure = read_flag(options.pop("is_secure", parts.host is None))
    except ValueError as error:
        raise ConfigurationError(f"{_SETTING}['is_secure']: {error}") from None
    role, duration = options.pop("sts_role_arn", None), options.pop("sts_token_timeout", 900)
    endpoint = options.pop("endpoint_url", None)
    if parts.host is not None:
        port = "" if parts.port is None else f":{parts.port}"
        endpoint = f"{'https' if secure else 'http'}://{parts.host}{port}"
    elif not secure and endpoint is None:
        endpoint = f"http://sqs.{region or 'us-east-1'}.amazonaws.com"
    try:
        return Account(
            service="sqs",
            region=_optional_text(region),
            endpoint_url=_optional_text(endpoint),
            access_key=parts.user,
            secret_key=parts.password,
            role=_optional_text(role),
            role_duration=read_number(duration, least=900, most=MOST_SECONDS),
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{_SETTING}: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None or value == "" else _text(value)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("must be a mapping")
    return cast("Mapping[str, Any]", value)


def _client_config(value: object) -> dict[str, Any]:
    given = dict(_mapping(value))
    for name in sorted(_NOT_THEIRS.keys() & given.keys()):
        del given[name]
        logger.warning("%s['client-config'][%r] has no effect: %s", _SETTING, name, _NOT_THEIRS[name])
    try:
        Config(**given)
    except (BotoCoreError, TypeError, ValueError) as error:
        raise ValueError(f"botocore's Config refuses it: {error}") from None
    return given


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in _mapping(value).items()}


def _predefined(value: object) -> dict[str, PredefinedQueue]:
    return {name: _predefined_queue(name, _mapping(found)) for name, found in _mapping(value).items()}


def _predefined_queue(name: str, found: Mapping[str, Any]) -> PredefinedQueue:
    url = found.get("url")
    if not isinstance(url, str) or not url:
        raise ValueError(f"the queue {name!r} needs a `url`")
    if is_fifo(name) != is_fifo(url):
        raise ValueError(f"the queue {name!r} and its url must both end in .fifo, or neither")
    unknown = found.keys() - _PREDEFINED
    if unknown:
        raise ValueError(f"the queue {name!r} has unknown keys: {', '.join(sorted(unknown))}")
    tasks = found.get("backoff_tasks") or ()
    if isinstance(tasks, str) or not isinstance(tasks, Collection):
        raise TypeError(f"backoff_tasks of {name!r} must be a list of names")
    policy = _mapping(found.get("backoff_policy") or {})
    return PredefinedQueue(
        url=url,
        region=_optional_text(found.get("region")),
        access_key=_optional_text(found.get("access_key_id")),
        secret_key=_optional_text(found.get("secret_access_key")),
        backoff_policy={
            read_number(number, least=1): read_number(seconds, most=MOST_SECONDS) for number, seconds in policy.items()
        },
        backoff_tasks=frozenset(map(str, cast("Collection[object]", tasks))),
    )


#: Of botocore's `Config`.
_NOT_THEIRS = {"connect_timeout": _ONE_DEADLINE, "read_timeout": _ONE_DEADLINE, "retries": _OWN_RETRIES}

_PREDEFINED = frozenset({"url", "region", "access_key_id", "secret_access_key", "backoff_policy", "backoff_tasks"})

#: Name of the option -> name of the field, and how its value is read.
_FIELDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "visibility_timeout": ("visibility_timeout", lambda value: read_number(value, most=MOST_SECONDS)),
    "wait_time_seconds": ("wait_time_seconds", lambda value: read_number(value, most=LONGEST_WAIT)),
    "polling_interval": ("polling_interval", read_seconds),
    "queue_name_prefix": ("queue_name_prefix", _text),
    "predefined_queues": ("predefined_queues", _predefined),
    "sqs-creation-attributes": ("creation_attributes", _texts),
    "queue_tags": ("queue_tags", _texts),
    "sqs_base64_encoding": ("base64", read_flag),
    "client-config": ("client_config", _client_config),
}
