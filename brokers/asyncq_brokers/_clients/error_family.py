"""Brokers and result backends on one client raise errors of their own: which, and what is none of them."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from asyncq.errors import (
    AsyncqError,
    BackendConnectionError,
    BackendError,
    BackendFull,
    BrokerConnectionError,
    BrokerError,
    BrokerFull,
)

__all__ = ["BACKEND_ERRORS", "BROKER_ERRORS", "ErrorFamily", "foreign_cancellation"]


class ErrorFamily(Struct, frozen=True):
    """The classes that one kind of driver raises."""

    #: Not reached, lost, too slow, throttled for too long: the fate of the call is unknown.
    connection: type[AsyncqError]
    #: Out of memory, out of disk, or a quota is used up.
    full: type[AsyncqError]
    #: Any other refusal.
    refused: type[AsyncqError]


BROKER_ERRORS = ErrorFamily(BrokerConnectionError, BrokerFull, BrokerError)
BACKEND_ERRORS = ErrorFamily(BackendConnectionError, BackendFull, BackendError)


def foreign_cancellation(error: BaseException) -> bool:
    """True for a CancelledError that nobody asked for: a library's way of saying that its connection died."""
    task = asyncio.current_task()
    return type(error) is asyncio.CancelledError and (task is None or task.cancelling() == 0)
