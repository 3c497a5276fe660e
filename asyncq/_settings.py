"""An app's settings: names, types, defaults. Where they come from stands in `_settings_sources`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Annotated, Any, ClassVar, Literal, TypedDict, cast
from zoneinfo import ZoneInfo

import pydantic
from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from asyncq._drivers import AMQP_SCHEMES, BackendSource, BrokerSource, is_source, normalize_url, scheme_of
from asyncq.protocol import Limits

__all__ = ["CELERY_NAMES", "Settings", "SettingsOptions"]

#: asyncq's name of a setting -> Celery's (new, lower-case) one, where they differ.
CELERY_NAMES: Mapping[str, str] = {
    "broker": "broker_url",
    "backend": "result_backend",
    "default_queue": "task_default_queue",
    "default_exchange": "task_default_exchange",
    "default_exchange_type": "task_default_exchange_type",
    "default_routing_key": "task_default_routing_key",
    "default_priority": "task_default_priority",
    "inherit_parent_priority": "task_inherit_parent_priority",
    "queues": "task_queues",
    "routes": "task_routes",
    "create_missing_queues": "task_create_missing_queues",
    "default_queue_type": "task_default_queue_type",
    "create_missing_queue_type": "task_create_missing_queue_type",
    "create_missing_queue_exchange_type": "task_create_missing_queue_exchange_type",
    "queue_max_priority": "task_queue_max_priority",
    "serializer": "task_serializer",
    "compression": "task_compression",
    "ignore_result": "task_ignore_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
    "track_started": "task_track_started",
    "acks_late": "task_acks_late",
    "acks_on_failure_or_timeout": "task_acks_on_failure_or_timeout",
    "default_rate_limit": "task_default_rate_limit",
    "disable_rate_limits": "worker_disable_rate_limits",
    "soft_time_limit": "task_soft_time_limit",
    "time_limit": "task_time_limit",
    "concurrency": "worker_concurrency",
    "max_tasks_per_child": "worker_max_tasks_per_child",
    "max_memory_per_child": "worker_max_memory_per_child",
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
    broker_heartbeat: int
    broker_login_method: Literal["PLAIN", "AMQPLAIN", "EXTERNAL"]
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
    inherit_parent_priority: bool
    task_inherit_parent_priority: bool
    longest_chain: int
    queues: Any
    task_queues: Any
    routes: Any
    task_routes: Any
    create_missing_queues: bool
    task_create_missing_queues: bool
    default_queue_type: Literal["classic", "quorum"]
    task_default_queue_type: Literal["classic", "quorum"]
    create_missing_queue_type: Literal["classic", "quorum"]
    task_create_missing_queue_type: Literal["classic", "quorum"]
    create_missing_queue_exchange_type: str | None
    task_create_missing_queue_exchange_type: str | None
    queue_max_priority: int | None
    task_queue_max_priority: int | None
    serializer: str
    task_serializer: str
    compression: str | None
    task_compression: str | None
    accept_content: Sequence[str]
    accept_compression: Sequence[str]
    max_message_bytes: int
    timezone: str | tzinfo
    enable_utc: bool
    result_serializer: str
    result_compression: str | None
    result_accept_content: Sequence[str] | None
    result_expires: float | timedelta | None
    result_failure_expires: float | timedelta | None
    result_extended: bool
    result_chord_join_timeout: float | timedelta | None
    result_chord_retry_interval: float | timedelta
    result_chord_expires: float | timedelta | None
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
    acks_on_failure_or_timeout: bool
    task_acks_on_failure_or_timeout: bool
    soft_time_limit: float | timedelta | None
    task_soft_time_limit: float | timedelta | None
    time_limit: float | timedelta | None
    task_time_limit: float | timedelta | None
    default_rate_limit: str | float | None
    task_default_rate_limit: str | float | None
    disable_rate_limits: bool
    worker_disable_rate_limits: bool
    kill_grace: float | timedelta
    lease: float | timedelta
    shutdown_timeout: float | timedelta
    drain_timeout: float | timedelta | None
    stall_timeout: float | timedelta | None
    max_deliveries: int
    max_tasks_per_child: int | None
    worker_max_tasks_per_child: int | None
    max_memory_per_child: int | None
    worker_max_memory_per_child: int | None
    start_timeout: float | timedelta
    unknown_task_timeout: float | timedelta


# -- how single values are read ------------------------------------------------------------------------------


def _seconds(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _or_for_ever(value: object) -> object:
    return None if value in (0, "0") else _seconds(value)


def _names(value: object) -> object:
    """Several names may be given as one text with commas, as environment variables have it."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _structure(value: object) -> object:
    """Lists and mappings may be given as JSON, as environment variables have them."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError("is no valid JSON") from None


def _queues(value: object) -> object:
    structure = _structure(value)
    return _names(structure) if isinstance(structure, str) else structure


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

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
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
    #: Seconds between two signs of life of RabbitMQ, 0 for none; None leaves it to the driver.
    broker_heartbeat: int | None = Field(None, ge=0, le=65535)
    #: How to tell RabbitMQ who we are; None is by user and password.
    broker_login_method: Literal["PLAIN", "AMQPLAIN", "EXTERNAL"] | None = None
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
    #: Steps of a chain that one message may hold; what is longer is kept apart, where only asyncq's workers find it. 0:
    #: all of it stays in the message, as Celery has it.
    longest_chain: int = Field(500, ge=0)
    #: What follows from a task (callbacks, steps of its chain) gets its priority, where it names none.
    inherit_parent_priority: bool = False
    #: Celery's `task_queues`: names, or a mapping of names to options. Any: `QueueTable` reads it.
    queues: Annotated[Any, pydantic.BeforeValidator(_queues)] = None
    #: Celery's `task_routes`: a map, a list of pairs, a function, or a list of such. Any: `Router` reads it.
    routes: Annotated[Any, pydantic.BeforeValidator(_structure)] = None
    #: A queue that `queues` doesn't name is made up when it is used; else its use is an error.
    create_missing_queues: bool = True
    #: RabbitMQ's type of the default queue, and of queues that are made up. A queue that exists keeps the type it has,
    #: and all who declare it have to say the same.
    default_queue_type: Literal["classic", "quorum"] = "classic"
    create_missing_queue_type: Literal["classic", "quorum"] = "classic"
    #: Exchange type of queues that are made up; None means direct.
    create_missing_queue_exchange_type: str | None = None
    #: RabbitMQ's `x-max-priority` of every queue that says nothing of its own; None: without priorities there.
    queue_max_priority: int | None = Field(None, ge=1, le=255)

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
    #: Seconds that the joining of a chord may take: twice that, and 5 at least, is how long a worker that has completed
    #: one keeps it to itself. None means 5.
    result_chord_join_timeout: _Seconds | None = 3.0
    #: Seconds between two looks at a chord that a Celery client has sent with a backend that can't join.
    result_chord_retry_interval: _Seconds = 1.0
    #: Seconds that a chord waits for its parts; None means as `result_expires`.
    result_chord_expires: _Lifetime = None
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
    #: False: a late-acknowledged task that fails goes to the dead letters.
    acks_on_failure_or_timeout: bool = True
    #: `rate_limit` of tasks that say nothing of their own.
    default_rate_limit: str | float | None = None
    #: True: rate limits of tasks are not kept.
    disable_rate_limits: bool = False
    #: Seconds for tasks that say nothing of their own; None means no limit.
    soft_time_limit: _Seconds | None = None
    time_limit: _Seconds | None = None
    #: Seconds that a task gets for its clean-up when it was cancelled.
    kill_grace: Annotated[float, pydantic.BeforeValidator(_seconds)] = Field(2.0, ge=0)
    #: Seconds until an unextended delivery may go to somebody else.
    lease: _Seconds = 60.0
    #: Seconds that running tasks get after a stop was asked for.
    shutdown_timeout: Annotated[float, pydantic.BeforeValidator(_seconds)] = Field(8.0, ge=0)
    #: Seconds that a worn-out process lets its tasks go on while another takes its place; None means as
    #: `shutdown_timeout`, and as long as the hard limits of what runs allow, at most 5 minutes.
    drain_timeout: Annotated[float | None, pydantic.BeforeValidator(_seconds)] = Field(None, ge=0)
    #: Seconds of a silent event loop after which its process is ended; None means half a lease, at most 30.
    stall_timeout: _Seconds | None = None
    #: Deaths of a worker process that one task is convicted of before it goes to the dead letters. The first one it may
    #: only have witnessed, so it takes two at least.
    max_deliveries: int = Field(5, ge=2)
    #: Tasks after which a process of `asyncq worker` is replaced; None means never.
    max_tasks_per_child: int | None = Field(None, gt=0)
    #: KiB of resident memory above which it is replaced; None means never.
    max_memory_per_child: int | None = Field(None, gt=0)
    #: Seconds that a server may stay away when the worker starts.
    start_timeout: _Seconds = 30.0
    #: Seconds that a task unknown to a worker waits for one that knows it, before it goes to the dead letters.
    unknown_task_timeout: Annotated[float, pydantic.BeforeValidator(_seconds)] = Field(3600.0, ge=0)

    @pydantic.field_validator("timezone", mode="before")
    @classmethod
    def _timezone_by_name(cls, value: object) -> object:
        return str(value) if isinstance(value, tzinfo) else value

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

    _origins: dict[str, str] = pydantic.PrivateAttr(default_factory=dict)

    def origin(self, name: str) -> str:
        """Where a setting's value was given, in the user's words; `default` where nobody gave one."""
        return self._origins.get(name, "default")

    @property
    def broker_options(self) -> dict[str, Any]:
        """Options of the broker's driver."""
        return self._login | self.broker_transport_options

    @property
    def reply_options(self) -> dict[str, Any]:
        """Options of the driver of `rpc://`, which connects to the broker."""
        return self._login | self.result_backend_transport_options

    @property
    def _login(self) -> _DriverOptions:
        """What is a setting of its own in Celery, and an option of the drivers here: for RabbitMQ alone."""
        if not isinstance(self.broker, str) or scheme_of(self.broker) not in AMQP_SCHEMES:
            return {}
        options = {"heartbeat": self.broker_heartbeat, "login_method": self.broker_login_method}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone that dates on the wire are written in."""
        if self.timezone is not None:
            return ZoneInfo(self.timezone)
        return UTC if self.enable_utc else timezone(timedelta(seconds=-time.timezone))

    @property
    def chord_claim(self) -> float:
        """Seconds that a worker that has completed a chord keeps it to itself: Celery's rule."""
        return max(5.0, 2 * (self.result_chord_join_timeout or 5.0))

    @property
    def chord_expires(self) -> float | None:
        """Seconds that a chord waits for its parts; None is for ever."""
        return self.result_expires if self.result_chord_expires is None else self.result_chord_expires

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
