"""What happens to messages, as functions on the open file. Each runs on the connection's thread, in one transaction."""

# ruff: noqa: S608 - statements are put together from literals of this module; every value is a parameter

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from asyncq.driver import (
    Ack,
    Clock,
    Dead,
    Delivery,
    GiveBack,
    Park,
    Place,
    QueueDepth,
    Requeue,
    Settlement,
    Stored,
)
from asyncq_brokers._clients.sqlite import Session, packed
from asyncq_brokers._parcels import PRIORITY_STEPS, Parcel, dead_queue

#: Who waits for messages listens to this.
TOPIC = "messages"

#: Bytes that one claim takes at most, its first message apart.
CLAIM_BYTES = 64 * 1024 * 1024

_READY = "token IS NULL AND due IS NULL"
_FREE = "token = NULL, node = NULL, lease = NULL, until = NULL"
_AMONG = "id IN (SELECT value FROM json_each(?))"


class Lease(Struct, frozen=True):
    """What a claim writes beside each message that it takes."""

    token: str
    node: str
    seconds: float


class _Row(NamedTuple):
    id: int
    queue: str
    length: int
    redelivered: bool
    deliveries: int


def add(session: Session, parcels: Sequence[Parcel]) -> None:
    """Store messages, ready or parked."""
    with session.adding() as db:
        _insert(db, parcels)
    if any(parcel.not_before is None for parcel in parcels):
        session.ring(TOPIC)


def _insert(db: sqlite3.Connection, parcels: Iterable[Parcel]) -> None:
    rows = [(parcel.queue, parcel.step, parcel.not_before, parcel.content) for parcel in parcels]
    packed.insert(db, "message (queue, step, due, content)", rows)


# -- taking --------------------------------------------------------------------------------------------------


def claim(
    session: Session, *, queues: Sequence[str], limit: int, lease: Lease, clock: Clock, asked_at: float
) -> list[Delivery]:
    """Take up to `limit`: priority steps strictly, within a step the queues in the order given."""
    lines = [(queue, step) for step in PRIORITY_STEPS for queue in queues]
    if not _with_something_ready(session.db, lines):  # a look that keeps nobody from writing
        return []
    with session.writing() as db:
        rows: list[_Row] = []
        for queue, step in _with_something_ready(db, lines):
            rows += _front(db, queue, step, limit - len(rows))
            if len(rows) == limit:
                break
        rows = _bounded(rows)
        db.execute(
            f"UPDATE message SET token = ?, node = ?, lease = ?, until = ?, count = count + 1 WHERE {_AMONG}",
            (lease.token, lease.node, lease.seconds, clock.wall() + lease.seconds, packed.keys(row.id for row in rows)),
        )
        contents = packed.contents(db, "message", "content", {row.id: row.length for row in rows})
    return [
        Delivery(f"{row.id}/{lease.token}", row.queue, contents[row.id], row.redelivered, row.deliveries + 1, asked_at)
        for row in rows
    ]


def _with_something_ready(db: sqlite3.Connection, lines: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the (queue, step) pairs that have a ready message, in the same order."""
    statement = (
        "SELECT group_concat(line.key) FROM json_each(?) AS line WHERE EXISTS ("
        "SELECT 1 FROM message WHERE queue = json_extract(line.value, '$[0]') "
        f"AND step = json_extract(line.value, '$[1]') AND {_READY})"
    )
    (positions,) = db.execute(statement, (json.dumps(lines),)).fetchone()
    return [lines[position] for position in sorted(packed.numbers(positions))]


def _front(db: sqlite3.Connection, queue: str, step: int, limit: int) -> list[_Row]:
    """The next ready messages of one line, in order."""
    columns = "group_concat(id), group_concat(length(content)), group_concat(redelivered), group_concat(count)"
    some = f"SELECT * FROM message WHERE queue = ? AND step = ? AND {_READY} ORDER BY id LIMIT ?"
    found = db.execute(f"SELECT {columns} FROM ({some})", (queue, step, limit)).fetchone()
    rows = zip(*map(packed.numbers, found), strict=True)
    return sorted(_Row(number, queue, length, bool(redelivered), count) for number, length, redelivered, count in rows)


def _bounded(rows: list[_Row]) -> list[_Row]:
    """As many as fit into `CLAIM_BYTES`, at least one."""
    sizes = itertools.accumulate(row.length for row in rows)
    return [
        row for position, (row, size) in enumerate(zip(rows, sizes, strict=True)) if not position or size <= CLAIM_BYTES
    ]


# -- settling ------------------------------------------------------------------------------------------------


def settle(session: Session, settlements: Sequence[Settlement], letters: Mapping[str, Parcel]) -> list[Delivery]:
    """Settle in order, `letters` by tag; return what is not ours any more."""
    lost: list[Delivery] = []
    with session.writing() as db:
        held = _held(db, [settlement.delivery for settlement in settlements])
        gone: list[int] = []
        given_back: list[int] = []
        for settlement in settlements:
            tag = settlement.delivery.tag
            number = held.pop(tag, None)
            if number is None:
                lost.append(settlement.delivery)
                continue
            match settlement:
                case Ack():
                    gone.append(number)
                case GiveBack():
                    given_back.append(number)
                case Requeue(front=front):
                    _line_up(db, number, front=front)
                case Park(until=until):
                    db.execute(f"UPDATE message SET {_FREE}, due = ? WHERE id = ?", (until, number))
                case Dead():
                    _insert(db, [letters[tag]])
                    gone.append(number)
        if gone:
            db.execute(f"DELETE FROM message WHERE {_AMONG}", (packed.keys(gone),))
        if given_back:
            db.execute(f"UPDATE message SET {_FREE}, count = count - 1 WHERE {_AMONG}", (packed.keys(given_back),))
    if any(not isinstance(settlement, Ack | Park) for settlement in settlements):
        session.ring(TOPIC)
    return lost


def extend(session: Session, deliveries: Sequence[Delivery], lease: float, clock: Clock) -> list[Delivery]:
    """Start the leases anew; return what is not ours any more."""
    with session.writing() as db:
        held = _held(db, deliveries)
        db.execute(
            f"UPDATE message SET lease = ?, until = ? WHERE {_AMONG}",
            (lease, clock.wall() + lease, packed.keys(held.values())),
        )
    return [delivery for delivery in deliveries if delivery.tag not in held]


def undo_claim(session: Session, token: str) -> None:
    """Give back what a claim took and nobody was handed."""
    with session.writing() as db:
        statement = f"UPDATE message SET {_FREE}, count = count - 1 WHERE token IS NOT NULL AND token = ?"
        undone = db.execute(statement, (token,)).rowcount
    if undone:
        session.ring(TOPIC)


def _held(db: sqlite3.Connection, deliveries: Iterable[Delivery]) -> dict[str, int]:
    """Which of the deliveries still hold their message: tag -> id."""
    claimed = {delivery.tag: delivery.tag.partition("/")[0] for delivery in deliveries}
    numbers = [int(number) for number in claimed.values() if number.removeprefix("-").isdecimal()]
    statement = f"SELECT json_group_array(id || '/' || token) FROM message WHERE {_AMONG} AND token IS NOT NULL"
    (tags,) = db.execute(statement, (packed.keys(numbers),)).fetchone()
    return {tag: int(claimed[tag]) for tag in json.loads(tags) if tag in claimed}


def _line_up(
    db: sqlite3.Connection, number: int, *, front: bool = False, queue: str | None = None, until: float | None = None
) -> None:
    """Give a message a new place in line: behind the others or before them, in its queue or another, or parked."""
    # Front places are counted downwards from zero with the same counter, so that no number ever comes twice.
    db.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'message'")
    place = "(SELECT seq FROM sqlite_sequence WHERE name = 'message')"
    db.execute(
        f"UPDATE message SET id = {'-' if front else ''}{place}, {_FREE}, queue = coalesce(?, queue), due = ?, "
        "redelivered = redelivered OR token IS NOT NULL WHERE id = ?",
        (queue, until, number),
    )


# -- for all -------------------------------------------------------------------------------------------------


def release(session: Session, node: str, ended: Collection[str]) -> int:
    """Give back what the node holds, and delete what had ended. It may have begun some of the rest."""
    with session.writing() as db:
        done = "node = ? AND id || '/' || token IN (SELECT value FROM json_each(?))"
        db.execute(f"DELETE FROM message WHERE token IS NOT NULL AND {done}", (node, json.dumps([*ended])))
        statement = f"UPDATE message SET {_FREE}, redelivered = 1 WHERE token IS NOT NULL AND node = ?"
        released = db.execute(statement, (node,)).rowcount
    if released:
        session.ring(TOPIC)
    return released


def next_events(db: sqlite3.Connection) -> tuple[float | None, float | None]:
    """When the next lease ends and the next parked message is due (UNIX seconds)."""
    statement = (
        "SELECT (SELECT min(until) FROM message WHERE token IS NOT NULL), "
        "(SELECT min(due) FROM message WHERE due IS NOT NULL)"
    )
    until, due = db.execute(statement).fetchone()
    return until, due


def rescue(session: Session, now: float) -> None:
    """Put messages whose lease has ended back to their places."""
    with session.writing() as db:
        statement = f"UPDATE message SET {_FREE}, redelivered = 1 WHERE token IS NOT NULL AND until <= ?"
        if db.execute(statement, (now,)).rowcount:
            session.ring(TOPIC)


def unpark(session: Session, now: float) -> None:
    """Make ready what is due."""
    with session.writing() as db:
        if db.execute("UPDATE message SET due = NULL WHERE due IS NOT NULL AND due <= ?", (now,)).rowcount:
            session.ring(TOPIC)


def shorten_leases(session: Session, now: float) -> None:
    """Let no lease last longer than it was given for: the clock was set back under those that do."""
    with session.writing() as db:
        db.execute("UPDATE message SET until = ?1 + lease WHERE token IS NOT NULL AND until > ?1 + lease + 1", (now,))


# -- for operators -------------------------------------------------------------------------------------------


def depth(session: Session, queue: str) -> QueueDepth:
    statement = (
        f"SELECT (SELECT count(*) FROM message WHERE queue = ?1 AND {_READY}), "
        "(SELECT count(*) FROM message WHERE queue = ?1 AND token IS NOT NULL), "
        "(SELECT count(*) FROM message WHERE queue = ?1 AND due IS NOT NULL), "
        f"(SELECT count(*) FROM message WHERE queue = ?2 AND {_READY})"
    )
    ready, in_flight, parked, dead = session.db.execute(statement, (queue, dead_queue(queue))).fetchone()
    return QueueDepth(ready=ready, in_flight=in_flight, parked=parked, dead=dead)


def purge(session: Session, queue: str) -> int:
    with session.writing() as db:
        return db.execute(f"DELETE FROM message WHERE queue = ? AND {_READY}", (queue,)).rowcount


def peek(session: Session, queue: str, place: Place, limit: int, offset: int) -> list[Stored]:
    where, order = _at(place)
    statement = f"SELECT id, content, due FROM message WHERE queue = ? AND {where} ORDER BY {order} LIMIT ? OFFSET ?"
    rows = session.db.execute(statement, (_queue_at(queue, place), limit, offset)).fetchall()
    return [Stored(key=str(number), queue=queue, content=content, until=due) for number, content, due in rows]


def move(session: Session, queue: str, place: Place, keys: Collection[str], until: float | None) -> int:
    with session.writing() as db:
        numbers = _standing_at(db, queue, place, keys)
        for number in numbers:
            _line_up(db, number, queue=queue, until=until)
    if numbers:
        session.ring(TOPIC)
    return len(numbers)


def drop(session: Session, queue: str, place: Place, keys: Collection[str]) -> int:
    with session.writing() as db:
        numbers = _standing_at(db, queue, place, keys)
        db.execute(f"DELETE FROM message WHERE {_AMONG}", (packed.keys(numbers),))
    return len(numbers)


def _standing_at(db: sqlite3.Connection, queue: str, place: Place, keys: Collection[str]) -> list[int]:
    """Which of the keys name messages of the place, in the place's order."""
    numbers = [int(key) for key in keys if key.removeprefix("-").isdecimal()]
    where, order = _at(place)
    statement = f"SELECT id FROM message WHERE {_AMONG} AND queue = ? AND {where} ORDER BY {order}"
    return [number for (number,) in db.execute(statement, (packed.keys(numbers), _queue_at(queue, place)))]


def _at(place: Place) -> tuple[str, str]:
    return ("due IS NOT NULL", "due, id") if place == "parked" else (_READY, "step, id")


def _queue_at(queue: str, place: Place) -> str:
    return dead_queue(queue) if place == "dead" else queue
