"""How a run can end, as the executor saw it; what follows from it is decided in `_judge`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeAlias, cast

from msgspec import Struct

from asyncq.errors import Ignore, InvalidArguments, Reject, Replace, Retry, Snooze, TimeLimitExceeded, WorkerLostError

#: Modules whose frames stand between the worker and the user's function.
_RUNTIME = ("asyncq.worker.", "asyncq._middleware", "anyio.")


class Succeeded(Struct, frozen=True):
    """The function returned."""

    value: Any


class Failed(Struct, frozen=True):
    """The function raised; `retryable` is False where another try could not end otherwise."""

    exc: BaseException
    retryable: bool = True


class Convicted(Struct, frozen=True):
    """It did not run: it is known to have blocked a worker, and `exc` is what that counts as."""

    exc: TimeLimitExceeded
    #: For people.
    reason: str


class RetryAsked(Struct, frozen=True):
    """The function raised Retry."""

    retry: Retry


class Snoozed(Struct, frozen=True):
    """The function raised Snooze."""

    #: Seconds.
    countdown: float


class Rejected(Struct, frozen=True):
    """The function raised Reject."""

    reject: Reject


class Ignored(Struct, frozen=True):
    """The function raised Ignore."""


class Revoked(Struct, frozen=True):
    """Not wanted (any more): `reason` is `expired`, `revoked` or, when it had begun, `terminated`."""

    reason: str


class Replaced(Struct, frozen=True):
    """The function raised Replace: a signature takes its place."""

    document: dict[str, Any]


class Interrupted(Struct, frozen=True):
    """The worker stopped before the function could end."""


class NotStarted(Struct, frozen=True):
    """The worker stopped before the function could begin."""


class Crashed(Struct, frozen=True):
    """The process that it had to itself died of it, maybe not for the first time: see `Suspicion.deaths`."""

    exc: WorkerLostError


Outcome: TypeAlias = (
    Succeeded
    | Failed
    | Convicted
    | RetryAsked
    | Snoozed
    | Rejected
    | Ignored
    | Revoked
    | Replaced
    | Interrupted
    | NotStarted
    | Crashed
)


class Lost(Struct, frozen=True):
    """The delivery went to somebody else: nothing follows from this run."""


class FoundElsewhere(Exception):
    """Carries an outcome that another process has found."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def outcome_of(exc: BaseException) -> Outcome:
    """What it means that the user's function raised this."""
    match _steering(exc) or exc:
        case Retry() as retry:
            return RetryAsked(retry)
        case Ignore():
            return Ignored()
        case Replace() as replace:
            return Replaced(replace.document)
        case Snooze() as snooze:
            return Snoozed(snooze.countdown)
        case Reject() as reject:
            return Rejected(reject)
        case InvalidArguments():
            return Failed(exc, retryable=False)
        case _:
            return Failed(exc)


def users_part(traceback: TracebackType | None) -> TracebackType | None:
    """Cut off the frames above the user's code: the worker's own, and the library's that calls it in a thread."""
    part = traceback
    while part is not None and part.tb_frame.f_globals.get("__name__", "").startswith(_RUNTIME):
        part = part.tb_next
    return part


def _steering(exc: BaseException) -> BaseException | None:
    """Find what steers in what a task group has wrapped: raised in its body or in a child."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc if isinstance(exc, Retry | Snooze | Ignore | Replace | Reject) else None
    group = cast("BaseExceptionGroup[BaseException]", exc)
    return next(filter(None, map(_steering, group.exceptions)), None)
