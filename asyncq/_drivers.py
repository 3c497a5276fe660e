"""From a URL, a factory or an instance to a driver."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias, cast

from asyncq.driver import Broker, DriverConfig, ResultBackend
from asyncq.errors import ConfigurationError

__all__ = [
    "EMBEDDED_SCHEMES",
    "BackendSource",
    "BrokerSource",
    "is_source",
    "make_backend",
    "make_broker",
    "normalize_url",
    "scheme_of",
]

#: A URL; a callable that makes a driver (its class, say); or a driver that was made already, which serves one user.
BrokerSource: TypeAlias = str | Broker | Callable[[DriverConfig], Broker]
BackendSource: TypeAlias = str | ResultBackend | Callable[[DriverConfig], ResultBackend]

#: Schemes whose broker carries the results as well.
EMBEDDED_SCHEMES = frozenset({"memory", "sqlite"})

_BROKERS = "asyncq.brokers"
_BACKENDS = "asyncq.backends"

#: Top-level modules that drivers need -> the extra that installs them.
_EXTRAS = {"redis": "redis", "aio_pika": "amqp", "aiormq": "amqp", "aiobotocore": "sqs", "botocore": "sqs"}

#: Celery's words for servers that asyncq doesn't speak to yet, so that an error can say more than "unknown".
_PLANNED = {
    _BROKERS: frozenset({"amqp", "amqps", "pyamqp", "librabbitmq", "sqs", "sentinel"}),
    _BACKENDS: frozenset({"rpc", "dynamodb", "s3", "sentinel"}),
}


def is_source(value: object, method: str) -> bool:
    """True for a factory, or for a driver, which is known by having `method`."""
    return callable(value) or callable(getattr(value, method, None))


def normalize_url(text: str) -> str:
    """`redis` is short for `redis://`, as in Celery."""
    return text if ":" in text else f"{text}://"


def scheme_of(url: str) -> str:
    """The part before the first colon, in small letters. Shows nothing of the rest."""
    return url.partition(":")[0].lower()


def make_broker(source: BrokerSource, config: DriverConfig) -> Broker:
    """A broker of its own for whoever asks. Raises ConfigurationError."""
    if isinstance(source, str):
        return cast("Broker", _factory(_BROKERS, scheme_of(config.url))(config))
    return source(config) if callable(source) else source


def make_backend(source: BackendSource, config: DriverConfig) -> ResultBackend:
    """A result backend of its own for whoever asks. Raises ConfigurationError."""
    if isinstance(source, str):
        return cast("ResultBackend", _factory(_BACKENDS, scheme_of(config.url))(config))
    return source(config) if callable(source) else source


def _factory(group: str, scheme: str) -> Callable[[DriverConfig], Any]:  # Any: each group has its own Protocol
    entries = _entries(group)
    entry = entries.get(scheme)
    if entry is None:
        known = ", ".join(f"{name}://" for name in sorted(entries))
        state = "is not supported yet" if scheme in _PLANNED[group] else "has no driver installed"
        what = "broker" if group == _BROKERS else "result backend"
        raise ConfigurationError(f"{what} {scheme}:// {state}; there is {known}")
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ConfigurationError(f"{scheme}:// needs an extra: pip install 'asyncq[{extra}]'") from None


@functools.cache
def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
