"""What redis-py raises, in asyncq's words: the one place where its errors and the server's are translated."""

from __future__ import annotations

import asyncio

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from asyncq.errors import AsyncqError, ConfigurationError
from asyncq_brokers._clients.error_family import ErrorFamily

__all__ = ["translate"]


#: Answers of a server that is not (or no longer) the one to talk to; another may stand at its address in a moment.
_WRONG_SERVER = (
    ReadOnlyError,
    MasterDownError,
    BusyLoadingError,
)
_WRONG_SERVER_CODES = ("READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "UNBLOCKED", "FAILOVER")
_CREDENTIALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError)
_CREDENTIAL_CODES = ("NOAUTH", "WRONGPASS")


def translate(error: BaseException, family: ErrorFamily, address: str) -> AsyncqError:
    """An error of redis-py, of the operating system or of asyncio as the driver's own."""
    if isinstance(error, AsyncqError):
        return error
    text = str(error) or type(error).__name__
    code = text.partition(" ")[0]
    if isinstance(error, _CREDENTIALS) or code in _CREDENTIAL_CODES:
        return ConfigurationError(f"Redis at {address} refuses our credentials: {text}")
    if isinstance(error, ResponseError) and "DB index is out of range" in text:
        return ConfigurationError(f"Redis at {address} has no such database")
    if isinstance(error, OutOfMemoryError) or code == "OOM" or "OOM command not allowed" in text:
        return family.full(f"Redis at {address} is full: {text}")
    if code == "MISCONF":  # its disk is full, or fails: it refuses every write until it can save again
        return family.full(f"Redis at {address} can't save, and takes nothing: {text}")
    if isinstance(error, _WRONG_SERVER) or code in _WRONG_SERVER_CODES:
        return family.connection(f"Redis at {address} does not serve: {text}")
    if isinstance(error, ResponseError):
        return family.refused(f"Redis at {address} refused: {text}")
    if isinstance(error, TimeoutError | RedisTimeoutError | asyncio.CancelledError):
        return family.connection(f"Redis at {address} did not answer in time")
    return family.connection(f"lost the connection to Redis at {address}: {text}")
