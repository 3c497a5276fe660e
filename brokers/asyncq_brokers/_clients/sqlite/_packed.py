"""Many rows in one statement, and in one row.

The sqlite3 module gives the interpreter lock up in every step of a statement, and must win it back from the event
loop's thread: up to 5 ms a row where that is busy with tasks. A batch of 100, row by row, took 3 to 49 ms beside such
a loop, and 2 to 9 ms as below (measured). So a batch is one statement where it can be: rows to insert are one VALUES
list, keys one JSON array, and contents are read as one concatenation.
"""

# ruff: noqa: S608 - statements are put together from literals of our own; every value is a parameter

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

#: Bytes of contents that are read or written at a time. One value may have 10^9 at most.
CHUNK_BYTES = 64 * 1024 * 1024

#: Rows of one VALUES list: seven columns stay below the 999 parameters of old SQLite versions.
CHUNK_ROWS = 100


def keys(values: Iterable[int | str]) -> str:
    """The parameter of `IN (SELECT value FROM json_each(?))`."""
    return json.dumps(list(values))


def numbers(text: str | None) -> list[int]:
    """What `group_concat` made of integers: None of no rows."""
    return [int(number) for number in text.split(",")] if text else []


def insert(db: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]], *, verb: str = "INSERT") -> int:
    """`INSERT INTO <into> VALUES …`, all rows in order; returns how many went in."""
    inserted = 0
    for chunk in chunks(rows, CHUNK_ROWS):
        statement = _values(verb, into, len(chunk), len(chunk[0]))
        inserted += db.execute(statement, [value for row in chunk for value in row]).rowcount
    return inserted


@lru_cache(maxsize=256)
def _values(verb: str, into: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{verb} INTO {into} VALUES {', '.join([row] * rows)}"


def contents(db: sqlite3.Connection, table: str, column: str, lengths: Mapping[int, int]) -> dict[int, bytes]:
    """The column's bytes by id, for the ids of `lengths`, which says how long each is."""
    found: dict[int, bytes] = {}
    statement = (
        f"SELECT group_concat(id), CAST(group_concat({column}, '') AS BLOB) "
        f"FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
    )
    for chunk in _by_size(lengths):
        ids, joined = db.execute(statement, (keys(chunk),)).fetchone()
        start = 0
        for number in numbers(ids):
            end = start + lengths[number]
            found[number] = joined[start:end]
            start = end
    return found


def _by_size(lengths: Mapping[int, int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for number, length in lengths.items():
        if chunk and size + length > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(number)
        size += length
    if chunk:
        yield chunk


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
