"""Chords on Redis: Celery's keys and rules (canvas.md, 8), so that its workers and ours complete the same ones.

Two keys are asyncq's own: each chord's body, and a sorted set of the chords that are to be looked at again. By these a
chord is ended whose worker died between its last part and its body, which Celery leaves lying.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asyncq.driver import CLAIM, CLAIM_WHILE_SENDING, CLOSED, ChordClaim, ChordOpening, ChordPart, Chords
from asyncq_backends._records import records_of_group
from asyncq_brokers._clients.redis import Link, Script, load_scripts

__all__ = ["RedisChords"]

T = TypeVar("T")

_SCRIPTS = load_scripts("asyncq_backends.redis")


def _for_chords(name: str) -> Script:
    """One that `chord` stands before."""
    return Script(name, _SCRIPTS["chord"].source + b"\n" + _SCRIPTS[f"chord_{name}"].source)


_OPEN, _JOIN, _RENEW, _OVERDUE = map(_for_chords, ("open", "join", "renew", "overdue"))
_GROW, _CLOSE = _SCRIPTS["chord_grow"], _SCRIPTS["chord_close"]

#: Parts a script call, and members a reply: Redis serves nobody else meanwhile.
_BATCH = 500

#: Chords of which it is remembered that a call for them failed.
_UNHEARD = 10_000

#: Chords that one call looks at for overdue ones.
_LOOKS = 200

#: Seconds until an incomplete chord is looked at again: a Celery worker may have completed it, and died.
_LOOK_AGAIN = 60.0


class RedisChords:
    """Over the connection of the backend, whose errors it raises.

    `prefix` stands before every key; `ordered` is Celery's `result_chord_ordered`, which all workers must agree on;
    `get` reads records.
    """

    saves_headers = False

    def __init__(
        self,
        link: Link,
        *,
        prefix: str,
        ordered: bool,
        get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
        new_id: Callable[[], str],
    ) -> None:
        self._link = link
        self._prefix = f"{prefix}celery-taskset-meta-"
        self._bodies = f"{prefix}asyncq.chord."
        self._chords = f"{prefix}asyncq.chords"
        #: Never written: see the broker's scripts.
        self._none = f"{prefix}asyncq.none"
        self._ordered = ordered
        self._records = get
        self._new_id = new_id
        #: Tokens of calls whose answer did not reach the caller, by chord: it may have been a claim.
        self._unheard: OrderedDict[str, str] = OrderedDict()

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        await _each(self._open(opening) for opening in openings)

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        key = self._prefix + group_id
        keys = [self._none, f"{key}.t", f"{key}.c", f"{key}.d"]
        await self._link.run(_GROW, keys, [by, _life(expires), name])

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        by_group: defaultdict[str, list[ChordPart]] = defaultdict(list)
        for part in parts:
            by_group[part.group_id].append(part)
        claims: list[ChordClaim] = []
        try:
            await _each(self._join(group_id, each, lease, claims) for group_id, each in by_group.items())
        except BaseException:
            for claim in claims:
                self._remember(claim.group_id, claim.token)
            raise
        return claims

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        if claim.saved is None:
            return self._parts(claim.group_id)
        return records_of_group(claim.saved, self._records, partial(self._parts, claim.group_id))

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        key = self._prefix + claim.group_id
        keys, arguments = (
            [self._none, f"{key}.c", f"{key}.s", self._chords],
            [claim.group_id, claim.token, _life(lease)],
        )
        return bool(await self._link.run(_RENEW, keys, arguments))

    async def close(self, claim: ChordClaim) -> None:
        key = self._prefix + claim.group_id
        keys = [f"{key}.c", self._chords, *(f"{key}.{suffix}" for suffix in "jtsd"), self._bodies + claim.group_id]
        await self._link.run(_CLOSE, keys, [claim.group_id, claim.token, _life(CLOSED)])

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        claims: list[ChordClaim] = []
        looked = _LOOKS
        while looked == _LOOKS and len(claims) < limit:
            arguments: list[str | int] = [self._prefix, self._bodies, limit - len(claims), _life(lease)]
            arguments += [self._new_id(), _life(_LOOK_AGAIN), _LOOKS]
            looked, *found = await self._link.run(_OVERDUE, [self._none, self._chords], arguments)
            claims += [
                ChordClaim(group_id=group.decode(), token=token.decode(), body=body, saved=saved or None)
                for group, token, body, saved in zip(*(found[at::4] for at in range(4)), strict=True)
            ]
        return claims

    async def _open(self, opening: ChordOpening) -> None:
        key = self._prefix + opening.group_id
        keys = [self._none, f"{key}.s", f"{key}.c", key, f"{key}.j", f"{key}.t", self._chords]
        arguments = [opening.group_id, opening.size, _life(opening.expires), opening.saved or b""]
        await self._link.run(_OPEN, keys, arguments)

    async def _join(self, group_id: str, parts: Sequence[ChordPart], lease: float, claims: list[ChordClaim]) -> None:
        """Hand in parts of one chord; add the claim, if there is one."""
        token, last = self._unheard.pop(group_id, None) or self._new_id(), parts[-1]
        saved: bytes | None = None
        try:
            for start in range(0, len(parts), _BATCH):
                saved = await self._count(group_id, parts[start : start + _BATCH], lease, token)
        except BaseException:
            self._remember(group_id, token)
            raise
        if saved is not None:
            claims.append(ChordClaim(group_id=group_id, token=token, body=last.body, saved=saved or None))

    async def _count(self, group_id: str, parts: Sequence[ChordPart], lease: float, token: str) -> bytes | None:
        """None where these parts did not complete the chord, or it is claimed by another token."""
        key, last = self._prefix + group_id, parts[-1]
        keys = [self._none, *(f"{key}{suffix}" for suffix in (".j", ".t", ".s", ".d", "", ".c"))]
        keys += [self._bodies + group_id, self._chords]
        arguments: list[str | bytes | int] = [group_id, int(self._ordered), _life(last.expires), _life(lease), token]
        arguments += [_life(_LOOK_AGAIN), last.body]
        for part in parts:
            place = "+inf" if part.index is None else str(part.index)
            arguments += [f"{part.task_id}:{place}", place, part.member]
        return await self._link.run(_JOIN, keys, arguments)

    async def _parts(self, group_id: str) -> AsyncGenerator[list[bytes]]:
        command, key = "ZRANGE" if self._ordered else "LRANGE", f"{self._prefix}{group_id}.j"
        start, batch = 0, [b""]
        while batch:
            batch = await self._link.call(command, key, start, start + _BATCH - 1)
            start += len(batch)
            if batch:
                yield batch

    def _remember(self, group_id: str, token: str) -> None:
        self._unheard[group_id] = token
        if len(self._unheard) > _UNHEARD:
            self._unheard.popitem(last=False)


async def _each(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """One call a chord, all in one write. Raises the first error, after the others have had their effect."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    results: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results


def _life(seconds: float | None) -> str:
    """Milliseconds; nothing for ever."""
    return "" if seconds is None else str(max(1, math.ceil(seconds * 1000)))


if TYPE_CHECKING:
    _chords: type[Chords] = RedisChords
