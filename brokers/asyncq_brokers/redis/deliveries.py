"""What the server records of deliveries: kombu's `unacked` keys and asyncq's leases, changed by scripts alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from asyncq_brokers._clients.redis import Link

from .envelope import mark_redelivered, priority_of, split_record
from .keys import Keys, clamp
from .scripts import script

__all__ = ["Claimed", "Deliveries", "Move", "Rule", "make_tag", "order_taken", "parked"]

#: When a delivery may be moved: see lua/move.lua.
Rule: TypeAlias = Literal["held", "expired", "overdue"]

#: Deliveries a script call. Redis serves nobody else meanwhile, and Lua unpacks no more than some 8,000 values.
_BATCH = 500

#: Bytes that one claim takes at most (one message is always taken): what has to fit through the connection at once.
_CLAIM_BYTES = 32 * 1024 * 1024


class Claimed(Struct):
    """One message that was taken."""

    tag: str
    #: Position of its list in the order that was asked for.
    list_number: int
    raw: bytes


class Move(Struct):
    """Where the message of a delivery goes."""

    tag: str
    #: L: head of a list (behind the others); R: tail (next in line); M: tail of many; P: parked; N: nowhere.
    action: Literal["L", "R", "M", "P", "N"]
    #: The list, or the name of the queue.
    place: str = ""
    message: bytes = b""
    extra: str = ""


def parked(keys: Keys, tag: str, queue: str, raw: bytes, until: float) -> Move:
    """The move that parks a delivery until a UNIX time. A parked message begins with its priority: one digit."""
    extra = json.dumps([keys.parked(queue), keys.parked_messages(queue), repr(until)])
    return Move(tag, "P", queue, b"%d%b" % (clamp(priority_of(raw)), raw), extra)


class Deliveries:
    """The records of one server."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

    async def claim(
        self,
        lists: Sequence[str],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        prefix: str,
        first: int,
        fair: bool,
    ) -> list[Claimed]:
        """Take up to `limit` messages. `lists` is all queues' first step, all queues' second step, and so on.

        The n-th tag is `make_tag(prefix, first + n)`. A call whose reply was lost is not to be repeated:
        `records` tells what it took.
        """
        keys = self._keys
        reply = await self._link.run(
            script("claim"),
            [keys.none, keys.leases, keys.unacked, keys.unacked_index, keys.unreadable, *lists],
            [limit, repr(lease), prefix, first, _CLAIM_BYTES, int(fair), *map(json.dumps, queues)],
        )
        return [
            Claimed(make_tag(prefix, first + position), abs(number) - 1, raw)
            for position, (number, raw) in enumerate(zip(reply[::2], reply[1::2], strict=True))
        ]

    async def records(self, tags: Sequence[str]) -> list[bytes | None]:
        """The records of deliveries as they stand; None where there is none (any more)."""
        if not tags:
            return []
        # In this order: what is hidden in between goes the same way.
        unacked, unreadable = await self._link.pipeline(
            [("HMGET", self._keys.unacked, *tags), ("HMGET", self._keys.unreadable, *tags)]
        )
        return [one or other for one, other in zip(unacked, unreadable, strict=True)]

    async def unacked(self, tags: Sequence[str]) -> list[bytes | None]:
        """The records that Celery would see; None where there is none."""
        return await self._link.call("HMGET", self._keys.unacked, *tags)

    async def ack(self, tags: Sequence[str]) -> set[int]:
        """Forget deliveries; returns the positions of those that were no longer held."""
        keys = self._keys
        return await self._batches("ack", [keys.leases, keys.unacked, keys.unacked_index, keys.unreadable], tags)

    async def extend(self, tags: Sequence[str], lease: float) -> set[int]:
        """Start leases (seconds) anew; returns the positions of those that were no longer held."""
        keys = self._keys
        return await self._batches("extend", [keys.none, keys.leases, keys.unacked, keys.unreadable], tags, repr(lease))

    async def renew(self, tags: Sequence[str]) -> set[int]:
        """Keep Celery's hands off; returns the positions of those that have no lease any more."""
        return await self._batches("renew", [self._keys.none, self._keys.leases, self._keys.unacked_index], tags)

    async def hide(self, tags: Sequence[str]) -> None:
        """Take records that are no JSON out of Celery's sight."""
        keys = self._keys
        await self._batches("hide", [keys.none, keys.unacked, keys.unacked_index, keys.unreadable], tags)

    async def move(self, rule: Rule, moves: Sequence[Move], *, age: float = 0.0) -> set[int]:
        """Put messages elsewhere and forget their deliveries; returns the positions of those that the rule left alone.

        `age` is in seconds, for the rule "overdue".
        """
        keys = self._keys
        gone: set[int] = set()
        for start in range(0, len(moves), _BATCH):
            arguments: list[str | bytes] = [rule, repr(age)]
            for move in moves[start : start + _BATCH]:
                arguments += (move.tag, move.action, move.place, move.message, move.extra)
            positions: list[int] = await self._link.run(
                script("move"),
                [keys.none, keys.leases, keys.unacked, keys.unacked_index, keys.unreadable, keys.parked_queues],
                arguments,
            )
            gone.update(start + position - 1 for position in positions)
        return gone

    async def put_back(self, rule: Rule, tags: Sequence[str], *, started: bool) -> int:
        """Return what stands under the tags to where it was taken from, in the order in which it was taken.

        `started` says that somebody may have begun with it, which its messages then tell. Returns how many went.
        """
        returned = 0
        newest_first = sorted(tags, key=order_taken, reverse=True)
        for start in range(0, len(newest_first), 100):
            batch = newest_first[start : start + 100]
            records = await self.records(batch)
            moves = [self._back(tag, record, started=started) for tag, record in zip(batch, records, strict=True)]
            returned += len(batch) - len(await self.move(rule, moves))
        return returned

    def _back(self, tag: str, record: bytes | None, *, started: bool) -> Move:
        if record is None:
            return Move(tag, "N")
        raw, queue = split_record(record)
        place = self._keys.list(queue, priority_of(raw))
        return Move(tag, "R", place, mark_redelivered(raw) if started else raw)

    async def _batches(self, name: str, keys: Sequence[str], tags: Sequence[str], *arguments: str) -> set[int]:
        gone: set[int] = set()
        for start in range(0, len(tags), _BATCH):
            batch = tags[start : start + _BATCH]
            positions: list[int] = await self._link.run(script(name), keys, [*arguments, *batch])
            gone.update(start + position - 1 for position in positions)
        return gone


def make_tag(prefix: str, number: int) -> str:
    """A delivery's name: whose it is, and when it was taken. Fixed digits keep the order of time."""
    return f"{prefix}{number:010d}"


def order_taken(tag: str) -> tuple[str, str]:
    """Sorts tags of one consumer by when they were taken."""
    owner, _, number = tag.rpartition("/")
    return number, owner
