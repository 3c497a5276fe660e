"""Chords in the file. Times are the machine's wall clock, which all its processes share; a call is one transaction."""

# ruff: noqa: S608 - statements are put together from literals of this module; every value is a parameter

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from asyncq.driver import CLAIM, CLAIM_WHILE_SENDING, CLOSED, ChordClaim, ChordOpening, ChordPart, Chords, Environment
from asyncq_backends._records import records_of_group
from asyncq_brokers._clients.sqlite import Connection, Session, packed

__all__ = ["SQLiteChords"]

#: Seconds between two sweeps for what has expired, and how many chords one deletes.
SWEEP = 60.0
SWEEP_CHORDS = 100

#: Members that are read at a time.
PAGE = 500

#: Parts of a closed chord that are deleted at a time.
SLICE = 5_000

#: The place of a part that names none, and of what is none: the name of a growth, kept beside the parts.
_LAST, _GROWTH = 2**62, -2


class SQLiteChords:
    """Over the connection of the backend, whose errors it raises. `get` reads records."""

    saves_headers = False

    def __init__(
        self,
        connection: Connection,
        environment: Environment,
        get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
    ) -> None:
        self._connection = connection
        self._clock = environment.clock
        self._new_id = environment.new_id
        self._records = get
        self._next_sweep = self._clock.monotonic()

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        def job(session: Session) -> None:
            with session.adding() as db:
                for opening in openings:
                    _open(db, self._clock.wall(), opening)

        await self._connection.run(job)

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        def job(session: Session) -> None:
            with session.adding() as db:
                _grow(db, self._clock.wall(), group_id, by, name=name, expires=expires)

        await self._connection.run(job)

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        by_group: defaultdict[str, list[ChordPart]] = defaultdict(list)
        for part in parts:
            by_group[part.group_id].append(part)
        tokens = {group_id: self._new_id() for group_id in by_group}
        now = self._clock.monotonic()
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + SWEEP

        def job(session: Session) -> list[ChordClaim]:
            with session.adding() as db:
                now = self._clock.wall()
                if sweep:
                    _sweep(db, now)
                return _join(db, now, by_group, tokens, lease)

        return await self._connection.run(job)

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        if claim.saved is None:
            return self._parts(claim.group_id)
        return records_of_group(claim.saved, self._records, partial(self._parts, claim.group_id))

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        def job(session: Session) -> bool:
            with session.writing() as db:
                now = self._clock.wall()
                change = f"UPDATE chord SET until = ? WHERE group_id = ? AND token = ? AND {_alive('?')} AND NOT closed"
                return db.execute(change, (now + lease, claim.group_id, claim.token, now)).rowcount == 1

        return await self._connection.run(job)

    async def close(self, claim: ChordClaim) -> None:
        def mark(session: Session) -> bool:
            with session.writing() as db:
                return _mark_closed(db, self._clock.wall(), claim)

        def delete(session: Session) -> int:
            with session.writing() as db:
                return db.execute(_DELETE_SOME, (claim.group_id, SLICE)).rowcount

        if await self._connection.run(mark):
            # Not all at once: nobody else could write meanwhile, and 100,000 parts took 0.8 s. What a cancelled call
            # leaves goes when the chord expires.
            while await self._connection.run(delete) == SLICE:
                pass

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        token = self._new_id()

        def job(session: Session) -> list[ChordClaim]:
            with session.writing() as db:
                return _overdue(db, self._clock.wall(), limit, lease, token)

        return await self._connection.run(job)

    async def _parts(self, group_id: str) -> AsyncGenerator[list[bytes]]:
        last: tuple[int, str] | None = (-1, "")
        while last is not None:
            page, last = await self._connection.run(partial(_page, group_id=group_id, after=last))
            if page:
                yield page


# -- on the connection's thread ------------------------------------------------------------------------------

_DELETE_SOME = "DELETE FROM chord_part WHERE id IN (SELECT id FROM chord_part WHERE group_id = ? LIMIT ?)"


def _open(db: sqlite3.Connection, now: float, opening: ChordOpening) -> None:
    if _is_closed(db, now, opening.group_id):
        return
    db.execute(
        "INSERT INTO chord (group_id, size, saved, expires) VALUES (?, ?, ?, ?) ON CONFLICT (group_id) "
        "DO UPDATE SET size = excluded.size, saved = excluded.saved, expires = excluded.expires",
        (opening.group_id, opening.size, opening.saved, _end(now, opening.expires)),
    )


def _grow(db: sqlite3.Connection, now: float, group_id: str, by: int, *, name: str, expires: float | None) -> None:
    if _is_closed(db, now, group_id):
        return
    named = "INSERT OR IGNORE INTO chord_part (group_id, place, task_id, member) VALUES (?, ?, ?, x'')"
    if not db.execute(named, (group_id, _GROWTH, name)).rowcount:
        return
    db.execute(
        "INSERT INTO chord (group_id, added, expires) VALUES (?, ?, ?) ON CONFLICT (group_id) "
        "DO UPDATE SET added = added + excluded.added, expires = excluded.expires",
        (group_id, by, _end(now, expires)),
    )


def _join(
    db: sqlite3.Connection,
    now: float,
    by_group: Mapping[str, Sequence[ChordPart]],
    tokens: Mapping[str, str],
    lease: float,
) -> list[ChordClaim]:
    claims: list[ChordClaim] = []
    for group_id, parts in by_group.items():
        if _is_closed(db, now, group_id):
            continue
        _add(db, now, group_id, parts)
        claim = _claim(db, now, group_id, tokens[group_id], lease)
        if claim is not None:
            claims.append(claim)
    return claims


def _add(db: sqlite3.Connection, now: float, group_id: str, parts: Sequence[ChordPart]) -> None:
    rows = [(group_id, _LAST if part.index is None else part.index, part.task_id, part.member) for part in parts]
    added = packed.insert(db, "chord_part (group_id, place, task_id, member)", rows, verb="INSERT OR IGNORE")
    db.execute(
        "INSERT INTO chord (group_id, parts, body, expires) VALUES (?, ?, ?, ?) ON CONFLICT (group_id) DO UPDATE "
        "SET parts = parts + excluded.parts, body = coalesce(body, excluded.body), expires = excluded.expires",
        (group_id, added, parts[-1].body, _end(now, parts[-1].expires)),
    )


def _claim(db: sqlite3.Connection, now: float, group_id: str, token: str, lease: float) -> ChordClaim | None:
    """The claim on a chord; None if it isn't complete, or claimed by another."""
    change = (
        "UPDATE chord SET token = ?, until = ? "
        "WHERE group_id = ? AND parts >= size + added AND NOT closed AND until <= ?"
    )
    if not db.execute(change, (token, now + lease, group_id, now)).rowcount:
        return None
    body, saved = db.execute("SELECT body, saved FROM chord WHERE group_id = ?", (group_id,)).fetchone()
    return ChordClaim(group_id=group_id, token=token, body=body, saved=saved)


def _page(session: Session, group_id: str, after: tuple[int, str]) -> tuple[list[bytes], tuple[int, str] | None]:
    """Members behind a place and a task, and the last of them; None behind the last one of all."""
    with session.reading() as db:
        some = (
            "SELECT id, place, task_id, length(member) AS size FROM chord_part WHERE group_id = ? "
            "AND (place, task_id) > (?, ?) ORDER BY place, task_id LIMIT ?"
        )
        statement = f"SELECT json_group_array(json_array(place, task_id, id, size)) FROM ({some})"
        (found,) = db.execute(statement, (group_id, *after, PAGE)).fetchone()
        rows: list[tuple[int, str, int, int]] = sorted(map(tuple, json.loads(found)))
        contents = packed.contents(db, "chord_part", "member", {row[2]: row[3] for row in rows})
        return [contents[row[2]] for row in rows], rows[-1][:2] if len(rows) == PAGE else None


def _mark_closed(db: sqlite3.Connection, now: float, claim: ChordClaim) -> bool:
    """False where somebody else has the claim. May be called again."""
    change = (
        "UPDATE chord SET closed = 1, expires = ?, body = NULL, saved = NULL "
        f"WHERE group_id = ? AND token = ? AND {_alive('?')}"
    )
    return db.execute(change, (now + CLOSED, claim.group_id, claim.token, now)).rowcount == 1


def _overdue(db: sqlite3.Connection, now: float, limit: int, lease: float, token: str) -> list[ChordClaim]:
    statement = (
        f"SELECT group_id FROM chord WHERE parts >= size + added AND NOT closed AND until <= ? AND {_alive('?')} "
        "AND body IS NOT NULL ORDER BY until LIMIT ?"
    )
    group_ids = [group_id for (group_id,) in db.execute(statement, (now, now, limit)).fetchall()]
    claims = [_claim(db, now, group_id, f"{token}.{number}", lease) for number, group_id in enumerate(group_ids)]
    return [claim for claim in claims if claim is not None]


def _is_closed(db: sqlite3.Connection, now: float, group_id: str) -> bool:
    """Whether a chord was closed; one that has expired is forgotten first."""
    row = db.execute("SELECT closed, expires FROM chord WHERE group_id = ?", (group_id,)).fetchone()
    if row is None:
        return False
    closed, expires = row
    if expires is not None and expires <= now:
        _forget(db, [group_id])
        return False
    return bool(closed)


def _sweep(db: sqlite3.Connection, now: float) -> None:
    some = "SELECT group_id FROM chord WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?"
    _forget(db, [group_id for (group_id,) in db.execute(some, (now, SWEEP_CHORDS)).fetchall()])


def _forget(db: sqlite3.Connection, group_ids: Sequence[str]) -> None:
    for table in ("chord_part", "chord"):
        db.execute(f"DELETE FROM {table} WHERE group_id IN (SELECT value FROM json_each(?))", (packed.keys(group_ids),))


def _alive(now: str) -> str:
    return f"(expires IS NULL OR expires > {now})"


def _end(now: float, expires: float | None) -> float | None:
    return None if expires is None else now + expires


if TYPE_CHECKING:
    _chords: type[Chords] = SQLiteChords
