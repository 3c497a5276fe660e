"""Facts and token buckets in the file.

Times are the machine's wall clock, which all its processes share. Each call is one transaction.
"""

# ruff: noqa: S608 - statements are put together from literals of this module; every value is a parameter

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from asyncq.driver import Clock, Coordination, Fact
from asyncq_brokers._clients.coordination import (
    check_bucket,
    check_facts,
    check_keys,
    check_prefix,
    check_ttl,
    read_counter,
    reserve,
)
from asyncq_brokers._clients.sqlite import _packed as packed
from asyncq_brokers._clients.sqlite._connection import Connection
from asyncq_brokers._clients.sqlite._session import Session

T = TypeVar("T")

#: Seconds between two sweeps for what has expired, and how many rows one deletes. Readers never see such a row.
SWEEP = 60.0
SWEEP_ROWS = 10_000

#: Sorts behind all characters that a key may have.
_BEHIND = "\x7f"


class SQLiteCoordination:
    """Coordination over the connection of a driver, whose errors it raises."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._next_sweep = clock.monotonic()

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        check_facts(facts)
        if not facts:
            return []
        return await self._write(partial(_put, facts=facts, if_absent=if_absent, if_same=if_same))

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        check_keys(keys)
        found = await self._read(partial(_get, keys=keys)) if keys else {}
        return [found.get(key) for key in keys]

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        check_keys(keys)
        return await self._write(partial(_delete, keys=keys, if_value=if_value)) if keys else 0

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        check_keys([key])
        check_ttl(ttl)
        return await self._write(partial(_incr, key=key, by=by, ttl=ttl))

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        check_bucket(bucket, rate=rate, capacity=capacity)
        return await self._write(partial(_take, bucket=bucket, rate=rate, capacity=capacity))

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        check_prefix(prefix)
        return sorted((await self._read(partial(_scan, prefix=prefix))).items())

    async def _read(self, look: Callable[[sqlite3.Connection, float], T]) -> T:
        def job(session: Session) -> T:
            with session.reading() as db:
                return look(db, self._clock.wall())

        return await self._connection.run(job)

    async def _write(self, change: Callable[[sqlite3.Connection, float], T]) -> T:
        now = self._clock.monotonic()
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + SWEEP

        def job(session: Session) -> T:
            with session.writing() as db:
                now = self._clock.wall()  # with the lock held, so that it is later than what the last writer saw
                if sweep:
                    _sweep(db, now)
                return change(db, now)

        return await self._connection.run(job)


# -- on the connection's thread ------------------------------------------------------------------------------

_AMONG = "key IN (SELECT value FROM json_each(?))"
_SELECT = "SELECT json_group_array(json_array(key, hex(value))) FROM fact WHERE "


def _put(db: sqlite3.Connection, now: float, *, facts: Sequence[Fact], if_absent: bool, if_same: bool) -> list[bool]:
    found = _get(db, now, keys=[fact.key for fact in facts]) if if_absent or if_same else {}
    newest: dict[str, Fact] = {}
    written: list[bool] = []
    for fact in facts:
        if if_absent:
            written.append(fact.key not in found and fact.key not in newest)
        else:
            written.append(not if_same or found.get(fact.key) == fact.value)
        if written[-1]:
            newest[fact.key] = fact
    rows = [(fact.key, fact.value, now + fact.ttl) for fact in newest.values()]
    packed.insert(db, "fact (key, value, expires)", rows, verb="INSERT OR REPLACE")
    return written


def _get(db: sqlite3.Connection, now: float, *, keys: Collection[str]) -> dict[str, bytes]:
    return _facts(db, f"{_AMONG} AND expires > ?", packed.keys(keys), now)


def _scan(db: sqlite3.Connection, now: float, *, prefix: str) -> dict[str, bytes]:
    return _facts(db, "key >= ? AND key < ? AND expires > ?", prefix, prefix + _BEHIND, now)


def _facts(db: sqlite3.Connection, condition: str, *parameters: str | float) -> dict[str, bytes]:
    """The facts that meet the condition, in one row: see `_packed`."""
    (found,) = db.execute(_SELECT + condition, parameters).fetchone()
    return {key: bytes.fromhex(value) for key, value in json.loads(found)}


def _delete(db: sqlite3.Connection, now: float, *, keys: Collection[str], if_value: bytes | None) -> int:
    statement = f"DELETE FROM fact WHERE {_AMONG} AND expires > ? AND (? IS NULL OR value = ?)"
    return db.execute(statement, (packed.keys(keys), now, if_value, if_value)).rowcount


def _incr(db: sqlite3.Connection, now: float, *, key: str, by: int, ttl: float) -> int:
    number = read_counter(key, _get(db, now, keys=[key]).get(key)) + by
    db.execute("INSERT OR REPLACE INTO fact (key, value, expires) VALUES (?, ?, ?)", (key, b"%d" % number, now + ttl))
    return number


def _take(db: sqlite3.Connection, now: float, *, bucket: str, rate: float, capacity: float) -> float:
    row = db.execute("SELECT full_at FROM bucket WHERE name = ?", (bucket,)).fetchone()
    wait, full_at = reserve(row and row[0], now, rate=rate, capacity=capacity)
    db.execute("INSERT OR REPLACE INTO bucket (name, full_at) VALUES (?, ?)", (bucket, full_at))
    return wait


def _sweep(db: sqlite3.Connection, now: float) -> None:
    some = "SELECT key FROM fact WHERE expires <= ? ORDER BY expires LIMIT ?"
    db.execute(f"DELETE FROM fact WHERE key IN ({some})", (now, SWEEP_ROWS))
    some = "SELECT name FROM bucket WHERE full_at <= ? ORDER BY full_at LIMIT ?"
    db.execute(f"DELETE FROM bucket WHERE name IN ({some})", (now, SWEEP_ROWS))


if TYPE_CHECKING:
    _coordination: Callable[[Connection, Clock], Coordination] = SQLiteCoordination
