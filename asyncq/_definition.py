"""What a task is, apart from how it is called: the part that senders and workers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from asyncq._argument_keys import KeySpec
from asyncq._unique import UniqueRule


class TaskOptions(Struct, frozen=True, kw_only=True):
    """A task's own settings. None means: as the app says."""

    #: Queue that it is sent to; None leaves it to the routes.
    queue: str | None = None
    #: 0 to 255. Which end is served first depends on the broker.
    priority: int | None = None
    #: Short name of a content type (`json`, `msgpack`).
    serializer: str | None = None
    #: Short name of a compression (`zlib`, `bz2`, …).
    compression: str | None = None
    #: Seconds after sending, after which it is not run any more.
    expires: float | None = None
    #: Store neither a value nor a state.
    ignore_result: bool | None = None
    #: Store FAILURE although results are ignored.
    store_errors_even_if_ignored: bool | None = None
    #: Store STARTED when it begins.
    track_started: bool | None = None
    #: Acknowledge after the run (at least once) or before it (at most once).
    acks_late: bool | None = None
    #: False: a late-acknowledged task that fails goes to the dead letters, one that runs into its hard limit back to
    #: its queue. True: both are acknowledged.
    acks_on_failure_or_timeout: bool | None = None
    #: Seconds in its own code, after which SoftTimeLimitExceeded is raised inside it.
    soft_time_limit: float | None = None
    #: Seconds in its own code, after which it is cancelled and has failed.
    time_limit: float | None = None
    #: Where a `def` task runs: a thread, or a process of its own that can be killed. Coroutines run on the loop.
    executor: Literal["thread", "process"] = "thread"
    #: At most so many a second (`10`, `"10/s"`), a minute (`"10/m"`) or an hour. One at a time: there is no burst.
    rate_limit: str | float | None = None
    #: Whose rate it is: each worker's own, as in Celery, or that of all workers together.
    limit_scope: Literal["worker", "fleet"] = "worker"
    #: Limits calls with different keys apart: names of parameters, or a function of the arguments.
    limit_key: KeySpec | None = None
    #: At most so many at a time in one worker.
    max_running: int | None = None
    #: At most one of a kind at a time; None: as many as are sent.
    unique: UniqueRule | None = None
    #: Exceptions that are no surprise: logged at INFO and without a traceback.
    throws: tuple[type[Exception], ...] = ()
    #: Further attempts after the first; None retries for ever.
    max_retries: int | None = 3
    #: Exceptions that lead to another attempt by themselves.
    retry_on: tuple[type[Exception], ...] = ()
    #: Exceptions that never do, though `retry_on` names a base class of theirs.
    dont_retry_on: tuple[type[Exception], ...] = ()
    #: Seconds before the first retry; each further one waits twice as long.
    retry_backoff: float = 1.0
    #: The longest such wait, in seconds.
    retry_backoff_max: float = 600.0
    #: Wait a random part of it (full jitter), so that what failed together doesn't come back together.
    retry_jitter: bool = True


class TaskDefinition(Struct, frozen=True, kw_only=True, eq=False):
    """A registered task: a name, a function, options."""

    name: str
    #: The user's function as written.
    fn: Callable[..., Any]
    #: `async def`: runs on the loop. Else it runs in a thread.
    is_coroutine: bool
    #: Its first parameter is a `Context`, which is injected and no argument of the message.
    takes_context: bool
    options: TaskOptions
