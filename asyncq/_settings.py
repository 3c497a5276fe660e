"""An app's settings, and where they come from.

Strongest first: the constructor, `ASYNCQ_<NAME>`, `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND`,
`config_from_object`, `REDIS_URL`, the defaults. Environment beats file, as with Celery: a config file with production's
URL in it must not win over staging's environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, NamedTuple, TypedDict, cast
from zoneinfo import ZoneInfo

import pydantic
from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from asyncq._drivers import EMBEDDED_SCHEMES, BackendSource, BrokerSource, is_source, normalize_url, scheme_of
from asyncq.errors import ConfigurationError
from asyncq.protocol import Limits

__all__ = ["CELERY_NAMES", "Settings", "SettingsOptions", "load_settings"]

#: asyncq's name of a setting -> Celery's (new, lower-case) one, where they differ.
CELERY_NAMES: Mapping[str, str] = {
    "broker": "broker_url",
    "backend": "result_backend",
    "default_queue": "task_default_queue",
    "default_exchange": "task_default_exchange",
    "default_exchange_type": "task_default_exchange_type",
    "default_routing_key": "task_default_routing_key",
    "default_priority": "task_default_priority",
    "queues": "task_queues",
    "routes": "task_routes",
    "create_missing_queues": "task_create_missing_queues",
    "serializer": "task_serializer",
    "compression": "task_compression",
    "ignore_result": "task_ignore_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
    "track_started": "task_track_started",
    "acks_late": "task_acks_late",
    "concurrency": "worker_concurrency",
}

_CONTENT_TYPES = {
    "application/json": "json",
    "application/x-msgpack": "msgpack",
    "application/x-yaml": "yaml",
    "application/x-python-serialize": "pickle",
    "application/data": "raw",
}


class SettingsOptions(TypedDict, total=False):
    """Settings as keywords of the constructor: asyncq's name, or Celery's where it differs. `Settings` says the rest.

    Values are as in Python; from the environment or a config object text does as well.
    """

    broker_url: str | Sequence[str]
    result_backend: str
    broker_transport_options: Mapping[str, Any]
    result_backend_transport_options: Mapping[str, Any]
    broker_use_ssl: Mapping[str, Any] | bool
    redis_backend_use_ssl: Mapping[str, Any] | bool
    network_timeout: float
    default_queue: str
    task_default_queue: str
    default_exchange: str
    task_default_exchange: str
    default_exchange_type: str
    task_default_exchange_type: str
    default_routing_key: str
    task_default_routing_key: str
    default_priority: int
    task_default_priority: int
    queues: Any
    task_queues: Any
    routes: Any
    task_routes: Any
    create_missing_queues: bool
    task_create_missing_queues: bool
    serializer: str
    task_serializer: str
    compression: str | None
    task_compression: str | None
    accept_content: Sequence[str]
    accept_compression: Sequence[str]
    max_message_bytes: int
    timezone: str
    enable_utc: bool
    result_serializer: str
    result_compression: str | None
    result_accept_content: Sequence[str] | None
    result_expires: float | timedelta | None
    result_failure_expires: float | timedelta | None
    result_extended: bool
    ignore_result: bool
    task_ignore_result: bool
    store_errors_even_if_ignored: bool
    task_store_errors_even_if_ignored: bool
    include: Sequence[str]
    imports: Sequence[str]
    concurrency: int
    worker_concurrency: int
    threads: int | None
    track_started: bool
    task_track_started: bool
    acks_late: bool
    task_acks_late: bool
    lease: float | timedelta
    shutdown_timeout: float | timedelta
    start_timeout: float | timedelta


# -- how single values are read ------------------------------------------------------------------------------


def _seconds(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _or_for_ever(value: object) -> object:
    return None if value in (0, "0") else _seconds(value)


def _names(value: object) -> object:
    """Several names may be given as one text with commas, as environment variables have it."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _content_types(value: object) -> object:
    names = _names(value)
    if not isinstance(names, list | tuple):
        return names
    return [_CONTENT_TYPES.get(name, name) for name in map(str, cast("Sequence[object]", names))]


def _broker(value: object) -> BrokerSource:
    """A list of URLs (failover) is one text with semicolons, as in Celery."""
    if isinstance(value, list | tuple):
        value = ";".join(map(str, cast("Sequence[object]", value)))
    if isinstance(value, str):
        return normalize_url(value)
    if not is_source(value, "publish"):
        raise ValueError("must be a URL, a broker, or a callable that makes one")
    return cast("BrokerSource", value)


def _backend(value: object) -> BackendSource | None:
    if value is None:
        return None
    if isinstance(value, str):
        return normalize_url(value)
    if not is_source(value, "store"):
        raise ValueError("must be a URL, a result backend, or a callable that makes one")
    return cast("BackendSource", value)


_Seconds = Annotated[float, pydantic.BeforeValidator(_seconds), Field(gt=0)]
_Lifetime = Annotated[Annotated[float, Field(gt=0)] | None, pydantic.BeforeValidator(_or_for_ever)]
_Names = Annotated[tuple[str, ...], NoDecode, pydantic.BeforeValidator(_names)]
_ContentTypes = Annotated[tuple[str, ...], NoDecode, pydantic.BeforeValidator(_content_types)]
_DriverOptions = dict[str, Any]  # Any: a driver's own options, which it checks itself


class Settings(BaseSettings):
    """What an app is set to. `repr` shows no URL and no option of a driver, since they carry passwords."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCQ_", frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    # Servers
    #: Where messages travel.
    broker: Annotated[BrokerSource, pydantic.PlainValidator(_broker)] = Field("sqlite://", repr=False)
    #: Where results are kept; None keeps none.
    backend: Annotated[BackendSource | None, pydantic.PlainValidator(_backend)] = Field(None, repr=False)
    broker_transport_options: _DriverOptions = Field(default_factory=dict, repr=False)
    result_backend_transport_options: _DriverOptions = Field(default_factory=dict, repr=False)
    broker_use_ssl: _DriverOptions | bool | None = Field(None, repr=False)
    redis_backend_use_ssl: _DriverOptions | bool | None = Field(None, repr=False)
    #: Seconds that one call to the broker or to the backend may take, connecting included.
    network_timeout: _Seconds = 10.0

    # Where messages go
    default_queue: str = "celery"
    #: None means the default queue's name, for the routing key too.
    default_exchange: str | None = None
    default_exchange_type: str = "direct"
    default_routing_key: str | None = None
    #: 0 to 255.
    default_priority: int | None = Field(None, ge=0, le=255)
    #: Celery's `task_queues`: names, or a mapping of names to options. Any: `QueueTable` reads it.
    queues: Any = None
    #: Celery's `task_routes`: a map, a list of pairs, a function, or a list of such. Any: `Router` reads it.
    routes: Any = None
    #: A queue that `queues` doesn't name is made up when it is used; else its use is an error.
    create_missing_queues: bool = True

    # What messages look like
    serializer: str = "json"
    compression: str | None = None
    #: Content types (short names) that are decoded.
    accept_content: _ContentTypes = ("json",)
    #: Compressions that are undone, besides the app's own.
    accept_compression: _Names = ("zlib",)
    #: Bytes.
    max_message_bytes: int = Field(16 * 1024 * 1024, gt=0)
    #: IANA name of the time zone that dates on the wire are written in.
    timezone: str | None = None
    #: False means local time where no `timezone` is set.
    enable_utc: bool = True

    # Results
    result_serializer: str = "json"
    result_compression: str | None = None
    #: None means as `accept_content`.
    result_accept_content: _ContentTypes | None = None
    #: Seconds; None or 0 keeps them for ever.
    result_expires: _Lifetime = 86400.0
    #: Seconds, for failures; None means as `result_expires`.
    result_failure_expires: _Lifetime = None
    #: Store name, args, kwargs, worker, retries and queue as well.
    result_extended: bool = False
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False

    # The worker
    #: Modules to import when a worker starts: where the tasks are.
    include: _Names = ()
    #: Celery's other word for `include`; both are imported.
    imports: _Names = ()
    #: Coroutine tasks at a time.
    concurrency: int = Field(100, gt=0)
    #: `def` tasks at a time; None means as `concurrency`, at most 64.
    threads: int | None = Field(None, gt=0)
    track_started: bool = False
    acks_late: bool = True
    #: Seconds until an unextended delivery may go to somebody else.
    lease: _Seconds = 60.0
    #: Seconds that running tasks get after a stop was asked for.
    shutdown_timeout: Annotated[float, pydantic.BeforeValidator(_seconds)] = Field(8.0, ge=0)
    #: Seconds that a server may stay away when the worker starts.
    start_timeout: _Seconds = 30.0

    @pydantic.field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError):
                raise ValueError("is no time zone that this machine knows") from None
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names them
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` lays the sources over each other, so that an error can name the one at fault."""
        return (init_settings,)

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone that dates on the wire are written in."""
        if self.timezone is not None:
            return ZoneInfo(self.timezone)
        return UTC if self.enable_utc else datetime.fromtimestamp(0, UTC).astimezone().tzinfo or UTC

    @property
    def modules(self) -> tuple[str, ...]:
        """All modules to import when a worker starts."""
        return tuple(dict.fromkeys((*self.imports, *self.include)))

    @property
    def limits(self) -> Limits:
        """Bounds of the decode door."""
        own = {name for name in (self.compression, self.result_compression) if name is not None}
        return Limits(
            max_message_bytes=self.max_message_bytes, compressions=frozenset({*self.accept_compression, *own})
        )


# -- where they come from ------------------------------------------------------------------------------------


#: Elsewhere None says "not given".
_NONE_MEANS_SOMETHING = frozenset({"result_expires", "result_failure_expires"})

#: Celery's words for "keep no results".
_NO_BACKEND = ("disabled", "disabled://")


class _Given(NamedTuple):
    """A value, and where it stood, in the user's words."""

    value: Any
    where: str


def load_settings(constructor: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Settings:
    """Lay constructor, environment, config and defaults over each other.

    `constructor` may use asyncq's names or Celery's new ones, `config` holds asyncq's.
    Raises TypeError for a name that is no setting, or that is given twice under two names; ConfigurationError for a
    value that won't do.
    """
    given = _from_config(config or {}) | _from_environment() | _from_constructor(constructor)
    redis_url = os.environ.get("REDIS_URL")
    if redis_url and "broker" not in given:
        given["broker"] = _Given(redis_url, "environment variable REDIS_URL")
        given.setdefault("backend", _Given(redis_url, "environment variable REDIS_URL"))
    if "backend" not in given:
        # The embedded brokers carry the results as well; with any other, results are kept where one says so.
        broker = given["broker"].value if "broker" in given else Settings.model_fields["broker"].default
        if isinstance(broker, str) and scheme_of(broker) in EMBEDDED_SCHEMES:
            given["backend"] = _Given(broker, "broker")
    elif given["backend"].value in _NO_BACKEND:
        del given["backend"]
    try:
        return Settings(**{name: each.value for name, each in given.items()})
    except pydantic.ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False, include_input=False)
    # Raised out here, so that pydantic's error, which holds the values, is not its context.
    raise ConfigurationError("; ".join(dict.fromkeys(_explain(complaint, given) for complaint in complaints)))


def _from_config(config: Mapping[str, Any]) -> dict[str, _Given]:
    return {
        name: _Given(value, f"{CELERY_NAMES.get(name, name)} in the config object")
        for name, value in config.items()
        if value is not None or name in _NONE_MEANS_SOMETHING
    }


def _from_environment() -> dict[str, _Given]:
    found = {
        name: _Given(value, f"environment variable {variable}")
        for name, variable in (("broker", "CELERY_BROKER_URL"), ("backend", "CELERY_RESULT_BACKEND"))
        if (value := os.environ.get(variable))
    }
    try:
        own = EnvSettingsSource(Settings, env_ignore_empty=True)()
    except SettingsError as error:
        complaint = str(error)
    else:
        variables = {name: f"environment variable ASYNCQ_{name.upper()}" for name in own}
        return found | {name: _Given(value, variables[name]) for name, value in own.items()}
    raise ConfigurationError(f"an environment variable is no valid JSON: {complaint}")


def _from_constructor(constructor: Mapping[str, Any]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    own_names = {celery: own for own, celery in CELERY_NAMES.items()}
    for keyword, value in constructor.items():
        name = own_names.get(keyword, keyword)
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(keyword, [*Settings.model_fields, *own_names], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"AsyncQ() has no setting {keyword!r}{hint}")
        if value is None and name not in _NONE_MEANS_SOMETHING:
            continue
        if name in found:
            raise TypeError(f"AsyncQ() got {name!r} and {CELERY_NAMES[name]!r}, which are the same setting: give one")
        found[name] = _Given(value, f"{keyword}=")
    return found


def _explain(complaint: Mapping[str, Any], given: Mapping[str, _Given]) -> str:
    name, *path = complaint["loc"]
    where = given[name].where if name in given else name
    positions = "".join(f"[{part}]" for part in path if isinstance(part, int))
    return f"{where}{positions}: {complaint['msg'].removeprefix('Value error, ')}"
