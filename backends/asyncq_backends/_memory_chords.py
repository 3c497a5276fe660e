"""Chords in this process."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, cast

from asyncq.driver import CLAIM, CLAIM_WHILE_SENDING, CLOSED, ChordClaim, ChordOpening, ChordPart, Chords, DriverConfig
from asyncq_backends._records import records_of_group

__all__ = ["MemoryChords"]

#: Seconds between two sweeps for what has expired, at least.
SWEEP = 60.0

#: Members that are given at a time.
_BATCH = 500


class _Chord:
    """What is known of one chord. Times are monotonic."""

    __slots__ = ("added", "body", "closed", "expires", "growths", "parts", "saved", "size", "token", "until")

    def __init__(self) -> None:
        #: Parts to expect; none before it is opened.
        self.size: int | None = None
        self.added = 0
        #: Names of what it has grown by.
        self.growths: set[str] = set()
        #: (index, task id) -> member.
        self.parts: dict[tuple[float, str], bytes] = {}
        self.body: bytes | None = None
        self.saved: bytes | None = None
        #: The last claim, and its end.
        self.token: str | None = None
        self.until = -inf
        self.closed = False
        self.expires = inf

    @property
    def complete(self) -> bool:
        return not self.closed and self.size is not None and len(self.parts) >= self.size + self.added

    def claim(self, group_id: str, token: str, now: float, lease: float) -> ChordClaim | None:
        """The claim on it; None if it isn't complete, or claimed by another."""
        if not self.complete or self.until > now or self.body is None:
            return None
        self.token, self.until = token, now + lease
        return ChordClaim(group_id=group_id, token=token, body=self.body, saved=self.saved)


class _Store:
    """The state that all instances share. Each method is atomic, and none waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chords: dict[str, _Chord] = {}
        self._next_sweep = 0.0

    def open(self, openings: Iterable[ChordOpening], now: float) -> None:
        with self._lock:
            self._sweep(now)
            for opening in openings:
                chord = self._get(opening.group_id, now)
                if not chord.closed:
                    chord.size, chord.saved = opening.size, opening.saved
                    chord.expires = _end(now, opening.expires)

    def grow(self, group_id: str, by: int, name: str, now: float, expires: float | None) -> None:
        with self._lock:
            chord = self._get(group_id, now)
            if not chord.closed and name not in chord.growths:
                chord.growths.add(name)
                chord.added += by
                chord.expires = _end(now, expires)

    def join(self, parts: Iterable[ChordPart], now: float, lease: float, new_id: Callable[[], str]) -> list[ChordClaim]:
        by_group: defaultdict[str, list[ChordPart]] = defaultdict(list)
        for part in parts:
            by_group[part.group_id].append(part)
        with self._lock:
            self._sweep(now)
            claims = (self._join(group_id, each, now, lease, new_id()) for group_id, each in by_group.items())
            return [claim for claim in claims if claim is not None]

    def members(self, group_id: str, now: float) -> list[bytes]:
        with self._lock:
            return [member for _, member in sorted(self._get(group_id, now).parts.items())]

    def renew(self, claim: ChordClaim, now: float, lease: float) -> bool:
        with self._lock:
            chord = self._get(claim.group_id, now)
            renewed = not chord.closed and chord.token == claim.token
            if renewed:
                chord.until = now + lease
            return renewed

    def close(self, claim: ChordClaim, now: float) -> None:
        with self._lock:
            if self._get(claim.group_id, now).token == claim.token:
                closed = self._chords[claim.group_id] = _Chord()
                closed.closed, closed.expires = True, now + CLOSED

    def overdue(self, limit: int, now: float, lease: float, new_id: Callable[[], str]) -> list[ChordClaim]:
        claims: list[ChordClaim] = []
        with self._lock:
            for group_id, chord in self._chords.items():
                if len(claims) >= limit:
                    break
                claim = chord.claim(group_id, new_id(), now, lease) if chord.expires > now else None
                if claim is not None:
                    claims.append(claim)
        return claims

    # -- with the lock held

    def _get(self, group_id: str, now: float) -> _Chord:
        """What is known of a chord; nothing at first."""
        chord = self._chords.get(group_id)
        if chord is None or chord.expires <= now:
            chord = self._chords[group_id] = _Chord()
        return chord

    def _join(
        self, group_id: str, parts: Sequence[ChordPart], now: float, lease: float, token: str
    ) -> ChordClaim | None:
        chord = self._get(group_id, now)
        if chord.closed:
            return None
        for part in parts:
            chord.parts.setdefault((inf if part.index is None else part.index, part.task_id), part.member)
            chord.body = part.body
            chord.expires = _end(now, part.expires)
        return chord.claim(group_id, token, now, lease)

    def _sweep(self, now: float) -> None:
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP
        self._chords = {group_id: chord for group_id, chord in self._chords.items() if chord.expires > now}


class MemoryChords:
    """Shared by all instances of one app and URL, from whatever thread and event loop.

    `turn` is the backend's: it lets others run, and raises when the backend is closed; `get` reads records.
    """

    saves_headers = False

    def __init__(
        self,
        config: DriverConfig,
        turn: Callable[[], Awaitable[None]],
        get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
    ) -> None:
        self._store = cast("_Store", config.shared.setdefault(f"{__name__} {config.url}", _Store()))
        self._clock = config.environment.clock
        self._new_id = config.environment.new_id
        self._turn = turn
        self._records = get

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        await self._turn()
        self._store.open(openings, self._clock.monotonic())

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        await self._turn()
        self._store.grow(group_id, by, name, self._clock.monotonic(), expires)

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        await self._turn()
        return self._store.join(parts, self._clock.monotonic(), lease, self._new_id)

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        if claim.saved is None:
            return self._parts(claim.group_id)
        return records_of_group(claim.saved, self._records, partial(self._parts, claim.group_id))

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        await self._turn()
        return self._store.renew(claim, self._clock.monotonic(), lease)

    async def close(self, claim: ChordClaim) -> None:
        await self._turn()
        self._store.close(claim, self._clock.monotonic())

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        await self._turn()
        return self._store.overdue(limit, self._clock.monotonic(), lease, self._new_id)

    async def _parts(self, group_id: str) -> AsyncGenerator[list[bytes]]:
        await self._turn()
        found = self._store.members(group_id, self._clock.monotonic())
        for start in range(0, len(found), _BATCH):
            yield found[start : start + _BATCH]


def _end(now: float, expires: float | None) -> float:
    return inf if expires is None else now + expires


if TYPE_CHECKING:
    _chords: type[Chords] = MemoryChords
