"""From an app's settings and a worker's options to what a worker is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from asyncq._definition import TaskDefinition
from asyncq._middleware import Middleware
from asyncq._producer import Producer
from asyncq._resources import Lifespan
from asyncq._settings import Settings
from asyncq.driver import Broker, Environment, Queue, ResultBackend
from asyncq.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncq.worker import WorkerSetup

__all__ = ["WorkerOptions", "worker_setup"]

#: Threads for `def` tasks where nobody says how many.
_MOST_THREADS = 64

#: Seconds that an event loop may be silent, where nobody says how long.
_LONGEST_STALL = 30.0


class WorkerOptions(TypedDict, total=False):
    """What one worker may be told. None means: as the settings say."""

    #: Names of the queues to serve, and no others.
    queues: Sequence[str] | None
    #: Coroutine tasks at a time.
    concurrency: int | None
    #: `def` tasks at a time.
    threads: int | None
    #: First part of the node name `<name>@<host>`; by default `asyncq-<8 random digits>`.
    name: str | None
    #: Seconds until an unextended delivery may go to somebody else.
    lease: float | None
    #: Seconds that running tasks get after a stop was asked for.
    shutdown_timeout: float | None
    #: End when the queues are empty and nothing runs.
    burst: bool
    #: End this process (exit code 1, the stacks of all threads on stderr) when the event loop is blocked for longer
    #: than the setting `stall_timeout`. The interpreter has one such timer (`faulthandler.dump_traceback_later`):
    #: whoever else sets it in this process ends this one's.
    watchdog: bool


def worker_setup(
    *,
    app: str,
    tasks: Mapping[str, TaskDefinition],
    broker: Broker,
    backend: ResultBackend | None,
    queues: Sequence[Queue],
    environment: Environment,
    producer: Producer,
    middleware: Sequence[Middleware],
    lifespans: Sequence[Lifespan[Any]],
    exceptions: Sequence[type[Exception]],
    settings: Settings,
    options: WorkerOptions,
) -> WorkerSetup:
    """Options over settings. Raises TypeError for an unknown option, ConfigurationError for a value that won't do."""
    from asyncq.worker import WorkerSetup

    unknown = options.keys() - WorkerOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown options of a worker: {', '.join(sorted(unknown))}")
    concurrency = _positive("concurrency", options.get("concurrency"), settings.concurrency)
    lease = _positive("lease", options.get("lease"), settings.lease)
    threads = settings.threads or min(concurrency, _MOST_THREADS)
    return WorkerSetup(
        app=app,
        # Leases are recorded under the node's name, so that two workers of one host must not share it.
        name=options.get("name") or f"asyncq-{environment.new_id()[:8]}",
        tasks=tasks,
        broker=broker,
        backend=backend,
        queues=queues,
        environment=environment,
        producer=producer,
        inherit_parent_priority=settings.inherit_parent_priority,
        middleware=middleware,
        lifespans=lifespans,
        exceptions=exceptions,
        concurrency=concurrency,
        threads=_positive("threads", options.get("threads"), threads),
        lease=lease,
        start_timeout=settings.start_timeout,
        shutdown_timeout=_first(options.get("shutdown_timeout"), settings.shutdown_timeout),
        kill_grace=settings.kill_grace,
        drain_timeout=settings.drain_timeout,
        stall_timeout=_stall_timeout(settings.stall_timeout, lease=lease),
        max_deliveries=settings.max_deliveries,
        unknown_task_timeout=settings.unknown_task_timeout,
        burst=options.get("burst", False),
        watch=True,
        watchdog=options.get("watchdog", False),
        limits=settings.limits,
        # What the app itself sends must be readable to its own workers.
        accept=tuple(dict.fromkeys((*settings.accept_content, settings.serializer))),
        ignore_result=settings.ignore_result,
        store_errors_even_if_ignored=settings.store_errors_even_if_ignored,
        track_started=settings.track_started,
        acks_late=settings.acks_late,
        acks_on_failure_or_timeout=settings.acks_on_failure_or_timeout,
        rate_limit=settings.default_rate_limit,
        disable_rate_limits=settings.disable_rate_limits,
        soft_time_limit=settings.soft_time_limit,
        time_limit=settings.time_limit,
        timezone=settings.tzinfo,
        result_expires=settings.result_expires,
        result_failure_expires=settings.result_failure_expires,
        result_serializer=settings.result_serializer,
        result_compression=settings.result_compression,
        result_extended=settings.result_extended,
        chord_expires=settings.chord_expires,
        chord_claim=settings.chord_claim,
        chord_retry_interval=settings.result_chord_retry_interval,
    )


def _stall_timeout(given: float | None, *, lease: float) -> float:
    """Seconds of silence after which a process is ended. Raises ConfigurationError where that would be too late."""
    if given is None:
        return min(_LONGEST_STALL, lease / 2)
    if given >= lease:
        raise ConfigurationError(
            f"stall_timeout ({given:g} s) must be less than the lease ({lease:g} s): others would run a blocked "
            "process's tasks while it still computes"
        )
    return given


def _first(given: Any, default: Any) -> Any:  # Any: one type at each call
    return default if given is None else given


def _positive(name: str, given: Any, default: Any) -> Any:  # Any: int or float, as the caller's default
    value = _first(given, default)
    if not value > 0:
        raise ConfigurationError(f"{name} must be greater than 0, not {value}")
    return value
