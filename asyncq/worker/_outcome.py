"""How a run can end, as the executor saw it; what follows from it is decided in `_conclusion`."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from asyncq.errors import Reject, Retry


class Succeeded(Struct, frozen=True):
    """The function returned."""

    value: Any


class Failed(Struct, frozen=True):
    """The function raised; `retryable` is False where another try could not end otherwise."""

    exc: BaseException
    retryable: bool = True


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


class Interrupted(Struct, frozen=True):
    """The worker stopped before the function could end."""


class NotStarted(Struct, frozen=True):
    """The worker stopped before the function could begin."""


Outcome: TypeAlias = Succeeded | Failed | RetryAsked | Snoozed | Rejected | Ignored | Revoked | Interrupted | NotStarted


class Lost(Struct, frozen=True):
    """The delivery went to somebody else: nothing follows from this run."""
