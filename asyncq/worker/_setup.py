"""All that a worker is told, in one struct: it knows no app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any

from msgspec import Struct, field

from asyncq._definition import TaskDefinition
from asyncq._middleware import Middleware
from asyncq._producer import Producer
from asyncq._resources import Lifespan
from asyncq.driver import CLAIM, Broker, Environment, Queue, ResultBackend
from asyncq.protocol import Limits


class WorkerSetup(Struct, kw_only=True):
    """A worker's parts and settings, made by `AsyncQ.worker(…)`."""

    #: Name of the app, for the log.
    app: str
    #: First part of the node name `<name>@<host>`.
    name: str = "asyncq"
    tasks: Mapping[str, TaskDefinition]
    #: Unopened, and the worker's own: it opens and closes them.
    broker: Broker
    backend: ResultBackend | None
    queues: Sequence[Queue]
    environment: Environment
    #: Makes the messages that follow from a task's end.
    producer: Producer
    middleware: Sequence[Middleware] = ()
    lifespans: Sequence[Lifespan[Any]] = ()
    #: The app's own, which errbacks of failures that were stored get as themselves.
    exceptions: Sequence[type[Exception]] = ()
    #: Coroutine tasks at a time.
    concurrency: int = 100
    #: `def` tasks at a time.
    threads: int = 64
    #: Seconds until an unextended delivery may go to somebody else.
    lease: float = 60.0
    #: Seconds that a server may stay away when the worker starts.
    start_timeout: float = 30.0
    #: Seconds that running tasks get after a stop was asked for.
    shutdown_timeout: float = 8.0
    #: Seconds that a task gets for its clean-up when it was cancelled: at its hard limit, or at the worker's stop.
    kill_grace: float = 2.0
    #: Seconds that a worn-out process lets its tasks go on; None: `shutdown_timeout`, and what their hard limits allow.
    drain_timeout: float | None = None
    #: Seconds of a silent loop after which the process shall be ended.
    stall_timeout: float = 30.0
    #: Look after the event loop: count its lags, tell who blocks it.
    watch: bool = False
    #: End the process when the loop is silent for `stall_timeout`: for one that has no supervisor.
    watchdog: bool = False
    #: Deaths of a process that one task is convicted of before it goes to the dead letters.
    max_deliveries: int = 5
    #: Seconds that a task unknown here waits for a worker that knows it, before it goes to the dead letters.
    unknown_task_timeout: float = 3600.0
    #: End when the queues are empty and nothing runs.
    burst: bool = False
    limits: Limits = field(default_factory=Limits)
    #: Content types (short names) that are decoded.
    accept: tuple[str, ...] = ("json",)
    #: What follows from a task gets its priority, where it names none.
    inherit_parent_priority: bool = False
    # What holds where a task doesn't say:
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False
    track_started: bool = False
    acks_late: bool = True
    acks_on_failure_or_timeout: bool = True
    #: Seconds; None means no limit.
    soft_time_limit: float | None = None
    time_limit: float | None = None
    rate_limit: str | float | None = None
    disable_rate_limits: bool = False
    # How results are stored:
    #: Of the dates in records.
    timezone: tzinfo = UTC
    #: Seconds; None keeps them for ever.
    result_expires: float | None = 86400.0
    #: Seconds for FAILURE; None means as `result_expires`.
    result_failure_expires: float | None = None
    result_serializer: str = "json"
    result_compression: str | None = None
    #: Store name, args, kwargs, worker, retries and queue as well (Celery's `result_extended`).
    result_extended: bool = False
    # How chords are joined:
    #: Seconds that one waits for its parts; None keeps it for ever.
    chord_expires: float | None = 86400.0
    #: Seconds that whoever completes one keeps it to himself at first.
    chord_claim: float = CLAIM
    #: Seconds between two looks of `celery.chord_unlock`, where its message says nothing.
    chord_retry_interval: float = 1.0
