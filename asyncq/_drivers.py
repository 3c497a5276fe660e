"""From a URL, a factory or an instance to a driver."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from asyncq.driver import Broker, DriverConfig, Environment, ResultBackend
from asyncq.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncq._settings import Settings

__all__ = [
    "AMQP_SCHEMES",
    "EMBEDDED_SCHEMES",
    "BackendSource",
    "BrokerSource",
    "Drivers",
    "is_source",
    "make_backend",
    "make_broker",
    "normalize_url",
    "scheme_of",
]

T = TypeVar("T")

#: A URL; a callable that makes a driver (its class, say); or a driver that was made already, which serves one user.
BrokerSource: TypeAlias = str | Broker | Callable[[DriverConfig], Broker]
BackendSource: TypeAlias = str | ResultBackend | Callable[[DriverConfig], ResultBackend]

#: Schemes whose broker carries the results as well.
EMBEDDED_SCHEMES = frozenset({"memory", "sqlite"})

#: Brokers that some of Celery's settings are for.
AMQP_SCHEMES = frozenset({"amqp", "amqps", "pyamqp"})

_BROKERS = "asyncq.brokers"
_BACKENDS = "asyncq.backends"

#: Top-level modules that drivers need -> the extra that installs them.
_EXTRAS = {"redis": "redis", "pamqp": "amqp", "aiobotocore": "sqs", "botocore": "sqs"}

#: Celery's words for servers that asyncq doesn't speak to yet, so that an error can say more than "unknown".
_PLANNED = {
    _BROKERS: frozenset({"librabbitmq", "sentinel"}),
    _BACKENDS: frozenset({"sentinel"}),
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


def is_reply_url(source: object) -> bool:
    """`rpc://`: results travel as replies over the broker, to whoever sent the task."""
    return isinstance(source, str) and scheme_of(source) == "rpc"


def make_broker(config: DriverConfig) -> Broker:
    """The driver that a URL's scheme names, not yet opened. Raises ConfigurationError."""
    return _factory(_BROKERS, scheme_of(config.url))(config)


def make_backend(config: DriverConfig) -> ResultBackend:
    """The driver that a URL's scheme names, not yet opened. Raises ConfigurationError."""
    return _factory(_BACKENDS, scheme_of(config.url))(config)


class Drivers:
    """Makes an app's drivers. Each is its caller's own, and not yet opened."""

    def __init__(self, app: str, environment: Environment) -> None:
        self._app = app
        self._environment = environment
        #: Where in-process drivers keep what their instances share.
        self._shared: dict[str, Any] = {}  # Any: the drivers' own
        self._handed_out: set[int] = set()

    def broker(self, settings: Settings) -> Broker:
        """Raises ConfigurationError."""
        source = settings.broker
        if not isinstance(source, str) and not callable(source):
            return self._only_once(source)
        make = make_broker if isinstance(source, str) else source
        return make(self._config(source, settings, settings.broker_options, settings.broker_use_ssl))

    def backend(self, settings: Settings) -> ResultBackend | None:
        """None where no results are kept. Raises ConfigurationError."""
        source = settings.backend
        if source is None:
            return None
        if not isinstance(source, str) and not callable(source):
            return self._only_once(source)
        make = make_backend if isinstance(source, str) else source
        if is_reply_url(source):
            if not isinstance(settings.broker, str):
                raise ConfigurationError("results over rpc:// need a broker that is given as a URL")
            config = self._config(settings.broker, settings, settings.reply_options, settings.broker_use_ssl)
            return _factory(_BACKENDS, scheme_of(str(source)))(config)
        options = settings.result_backend_transport_options
        return make(self._config(source, settings, options, settings.redis_backend_use_ssl))

    def _config(
        self, source: object, settings: Settings, options: Mapping[str, Any], tls: Mapping[str, Any] | bool | None
    ) -> DriverConfig:
        return DriverConfig(
            url=source if isinstance(source, str) else "",
            app=self._app,
            environment=self._environment,
            options=options,
            tls=tls,
            timeout=settings.network_timeout,
            shared=self._shared,
        )

    def _only_once(self, driver: T) -> T:
        """A driver that was made outside. Whoever gets it closes it, so it can't serve a client and a worker."""
        if id(driver) in self._handed_out:
            raise ConfigurationError(
                f"the {type(driver).__name__} that the app was given is in use: a driver serves one client or one "
                "worker; give a URL or a callable that makes drivers"
            )
        self._handed_out.add(id(driver))
        return driver


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
