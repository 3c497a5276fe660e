"""SQLite's errors, translated at one place into asyncq's, with the file's path and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from msgspec import Struct

from asyncq.errors import AsyncqError, ConfigurationError


class Failures(Struct, frozen=True):
    """What a driver raises: the broker's errors, or the backend's."""

    connection: type[AsyncqError]
    full: type[AsyncqError]


class NoRoom(Exception):
    """There is no room left but the room that is kept back."""


def primary_code(error: BaseException) -> int | None:
    """SQLite's result code without the detail in its upper bits (https://sqlite.org/rescode.html)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Another connection has the file; trying again is all there is to do."""
    return primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_full(error: sqlite3.Error) -> bool:
    """No room on the disk, for the file, its log or the log's index."""
    full_index = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE
    return full_index or primary_code(error) == sqlite3.SQLITE_FULL


def translate(error: Exception, path: Path, failures: Failures) -> Exception:
    """The asyncq error that says the same."""
    match error:
        case NoRoom():
            return failures.full(f"{path}: no room left on the disk, but for acknowledging; nothing was stored")
        case sqlite3.Error() if is_full(error):
            return failures.full(f"{path}: no room left on the disk; nothing of the call was done")
        case sqlite3.Error():
            return _translate_code(error, path, failures)
        case OSError():
            return ConfigurationError(
                f"{path} can't be used: {error.strerror or error}; is the folder there and yours?"
            )
        case _:
            return error


def _translate_code(error: sqlite3.Error, path: Path, failures: Failures) -> Exception:
    match primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return failures.connection(f"{path}: locked by another process for too long")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return ConfigurationError(f"{path} is damaged, or no SQLite file ({error}): move it away, or name another")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return ConfigurationError(
                f"{path} can't be written ({error}): check the file's and the folder's permissions"
            )
        case _:
            return failures.connection(f"{path}: {error}")
