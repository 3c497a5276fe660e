"""Everything asyncq raises on purpose, as one tree.

::

    AsyncqError
    ├── ConfigurationError            a setting, a URL or a task's declaration is wrong
    ├── ProtocolError
    │   ├── DecodeError               what came is no message of ours: the sender's fault
    │   └── EncodeError               what should go cannot travel: the caller's fault
    ├── BrokerError
    │   ├── BrokerConnectionError     not reachable, or too slow; the fate of the call is unknown
    │   ├── BrokerFull                reachable, and refuses to take more
    │   └── PublishError              some members of a batch were refused, each with its reason
    ├── BackendError
    │   ├── BackendConnectionError
    │   └── BackendFull
    ├── DuplicateTaskError            a unique task of that kind is there already
    ├── ResultTimeout                 `AsyncResult.get(timeout=…)` ran out
    └── TaskError                     what a task may raise, and what stands in its result
        ├── Retry · Snooze · Replace · Reject · Ignore   asked for by the task's own code
        ├── SoftTimeLimitExceeded · TimeLimitExceeded
        ├── MaxRetriesExceededError · InvalidArguments · NotRegistered
        ├── TaskRevokedError · WorkerLostError · ChordError
        └── RemoteTaskError           an exception of a class that this process doesn't know
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

__all__ = [
    "AsyncqError",
    "BackendConnectionError",
    "BackendError",
    "BackendFull",
    "BrokerConnectionError",
    "BrokerError",
    "BrokerFull",
    "ChordError",
    "ConfigurationError",
    "DecodeError",
    "DuplicateTaskError",
    "EncodeError",
    "Ignore",
    "InvalidArguments",
    "MaxRetriesExceededError",
    "NotRegistered",
    "ProtocolError",
    "PublishError",
    "Reject",
    "RemoteTaskError",
    "Replace",
    "ResultTimeout",
    "Retry",
    "SignatureError",
    "Snooze",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "WorkerLostError",
]


class AsyncqError(Exception):
    """The root: `except AsyncqError` catches all that asyncq raises on purpose."""


class ConfigurationError(AsyncqError):
    """A setting, a URL, an extra or a task's declaration is wrong. The text says what, where and what to do."""


# -- the wire ------------------------------------------------------------------------------------------------


class ProtocolError(AsyncqError):
    """Bytes and values that don't fit the protocol."""


class DecodeError(ProtocolError):
    """What came is no message or record of ours, or breaks a limit. Never raised for what we encoded ourselves."""


class EncodeError(ProtocolError):
    """A value cannot travel: no encoding for its type, or too large."""


class SignatureError(ProtocolError):
    """What stands for a signature is none, or can't be sent where it stands. The text shows no argument."""


# -- servers -------------------------------------------------------------------------------------------------


class BrokerError(AsyncqError):
    """The broker answered, and the answer is no."""


class BrokerConnectionError(BrokerError):
    """The broker can't be reached, went away or didn't answer in time. Whether the call had its effect is unknown."""


class BrokerFull(BrokerError):
    """The broker is out of memory or disk and refuses to store more. Nothing of the call was stored."""


class PublishError(BrokerError):
    """Some messages of a batch were refused; the others were accepted.

    `failures` maps a message's position in the batch to its reason.
    """

    def __init__(self, failures: Mapping[int, Exception]) -> None:
        super().__init__(failures)
        self.failures: dict[int, Exception] = dict(failures)

    def __str__(self) -> str:
        first = min(self.failures)
        return f"{len(self.failures)} of the batch were refused; number {first}: {self.failures[first]}"


class BackendError(AsyncqError):
    """The result backend answered, and the answer is no."""


class BackendConnectionError(BackendError):
    """The result backend can't be reached, went away or didn't answer in time."""


class BackendFull(BackendError):
    """The result backend is out of memory or disk and refuses to store more."""


class ResultTimeout(AsyncqError, TimeoutError):
    """No final state within the `timeout` that was asked for. The task itself goes on."""


class DuplicateTaskError(AsyncqError):
    """A unique task of that kind is there already (`Unique(on_conflict="raise")`); `task_id` is its id."""

    def __init__(self, task: str, task_id: str) -> None:
        super().__init__(task, task_id)
        self.task = task
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.task} is unique, and {self.task_id} is there already"


# -- tasks ---------------------------------------------------------------------------------------------------


class TaskError(AsyncqError):
    """What a task's code may raise to steer its outcome, and what may stand in its result."""


class Retry(TaskError):
    """Ends this attempt and asks for another one; made by `ctx.retry(…)`.

    `countdown` is in seconds; None means that the task's own backoff decides.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        *,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        super().__init__(message, exc)
        self.message = message
        self.exc = exc
        self.countdown = countdown
        self.max_retries = max_retries

    def __str__(self) -> str:
        text = self.message or "Task asked for a retry"
        if self.countdown is not None:
            text = f"{text} in {self.countdown:g}s"
        return f"{text}: {self.exc!r}" if self.exc is not None else text


#: Seconds. Whoever asks for more has made a mistake.
_YEARS = 100 * 365 * 86400.0


class Snooze(TaskError):
    """Puts the task aside for `countdown` seconds without using an attempt; made by `ctx.snooze(…)`."""

    def __init__(self, countdown: float) -> None:
        if not 0 <= countdown < _YEARS:
            raise ValueError(f"snooze: {countdown} is no number of seconds to wait")
        super().__init__(countdown)
        self.countdown = countdown


class Reject(TaskError):
    """Refuses the delivery: back to its queue with `requeue=True`, else to the dead letters."""

    def __init__(self, reason: object = None, *, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __reduce__(self) -> tuple[Callable[[], Reject], tuple[()]]:
        """Pickled as it is made: `requeue` has to be named."""
        return partial(type(self), self.reason, requeue=self.requeue), ()


class Ignore(TaskError):
    """Ends the task without a state of its own: nothing is stored, the message is acknowledged."""


class Replace(TaskError):
    """Ends the task, and has a signature take its place; made by `ctx.replace(…)`. `document` is the signature's."""

    def __init__(self, document: dict[str, object]) -> None:
        super().__init__(document)
        self.document = document

    def __str__(self) -> str:
        return "Another task takes the place of this one"  # the arguments of that one are nobody's business


class SoftTimeLimitExceeded(TaskError, asyncio.CancelledError):
    """The soft limit (seconds), raised inside the task at its await point.

    It is an `Exception` to user code, and a cancellation to asyncio: task groups and time-out scopes on its way
    cancel their children, as they would not for a plain exception that turns up at an await.
    """


class TimeLimitExceeded(TaskError):
    """The hard limit (seconds): the task was cancelled and ended as FAILURE."""


class MaxRetriesExceededError(TaskError):
    """A retry was asked for after the last allowed one."""


class InvalidArguments(TaskError):
    """The message's arguments don't fit the task's signature. Never retried: the message won't get better."""


class NotRegistered(TaskError):
    """No task of that name here."""


class TaskRevokedError(TaskError):
    """The task was revoked, expired or terminated."""


class WorkerLostError(TaskError):
    """The worker process died while it ran the task."""


class ChordError(TaskError):
    """A header task of a chord failed, so its body will not run."""


class RemoteTaskError(TaskError):
    """A task failed with an exception of a class that this process doesn't know.

    Nothing is imported because a result names it: declare your own classes with `AsyncQ(exceptions=[…])`.
    """

    def __init__(self, type: str, message: str, traceback: str | None = None) -> None:  # noqa: A002 - the field's word
        super().__init__(type, message)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
