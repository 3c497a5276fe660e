"""Chords in DynamoDB: Celery's items (dynamodb.md, 5), and asyncq's own, by which a part counts once.

Celery keeps the saved header and a counter among the results, and counts a part as often as it comes. Here a part is
an item in the shared table, put under the condition that it is new in one transaction with the counter; so both kinds
of worker complete the same chord. Whoever's count was the last completes it: the counter says which of our counts was
our last (`asyncq_count`), for Celery has no claims, and sends the body at once.

A chord's own items stand in a partition of theirs: one for its state, one a part in their order. Another partition
names the chords that were claimed, so that one can be found whose claim has ended.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from asyncq.driver import (
    CLAIM,
    CLAIM_WHILE_SENDING,
    CLOSED,
    ChordClaim,
    ChordOpening,
    ChordPart,
    Chords,
    Environment,
)
from asyncq.errors import DecodeError
from asyncq_backends._records import group_of, records_of_group
from asyncq_brokers._clients.aws import AwsLink, Finisher, together

from .chord_counting import ChordCounting
from .chord_states import FOR_EVER, ChordState, ChordStates
from .items import MAX_RECORD_BYTES
from .options import BackendOptions
from .table import SharedTable

__all__ = ["DynamoChords"]

logger = logging.getLogger(__name__)

#: What one transaction may hold: 100 items, two of which are the counter and the chord's state, and 4 MB.
_BATCH_PARTS, _BATCH_BYTES = 98, 3 * 1024 * 1024


class DynamoChords:
    """Over the connection of the backend, whose errors it raises. `get` reads records."""

    saves_headers = True

    def __init__(
        self,
        link: AwsLink,
        environment: Environment,
        *,
        options: BackendOptions,
        shared: SharedTable,
        get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
        finisher: Finisher,
    ) -> None:
        self._states = ChordStates(link, environment, table=shared.name, prefix=options.prefix)
        self._counting = ChordCounting(link, environment, self._states, options=options, shared=shared.name)
        self._clock = environment.clock
        self._shared = shared
        self._new_id = environment.new_id
        self._records = get
        self._finisher = finisher

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        await self._shared.ready()
        await together(self._open(opening) for opening in openings)

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        await self._shared.ready()
        growth = partial(self._counting.grow, group_id, by, name, expires)
        if not await growth() and await self._begins_anew(group_id):
            await growth()

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        await self._shared.ready()
        by_group: defaultdict[str, list[ChordPart]] = defaultdict(list)
        for part in parts:
            by_group[part.group_id].append(part)
        claims = await together(self._join(group_id, each, lease) for group_id, each in by_group.items())
        return [claim for claim in claims if claim is not None]

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        if claim.saved is None:
            return self._parts(claim.group_id)
        return records_of_group(claim.saved, self._records, partial(self._parts, claim.group_id))

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        await self._shared.ready()
        return await self._states.renew(claim, lease) is not None

    async def close(self, claim: ChordClaim) -> None:
        await self._shared.ready()
        await self._finisher.run(self._close(claim))

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        await self._shared.ready()
        claims: list[ChordClaim] = []
        for group_id in await self._states.listed() if limit else ():
            state = await self._states.get(group_id)
            if state is None or state.closed:
                await self._states.unlist(group_id)
            elif (claim := await self._claim_if_complete(group_id, state, lease)) is not None:
                claims.append(claim)
            if len(claims) == limit:
                break
        return claims

    async def _open(self, opening: ChordOpening) -> None:
        saved = opening.saved
        if saved is not None and len(saved) > MAX_RECORD_BYTES:
            logger.warning(
                "Chord %s: its header has too many members for an item of DynamoDB; Celery's workers can't run them",
                opening.group_id,
            )
            saved = None
        state = await self._states.open(opening, saved=saved is not None)
        if state is None:
            if await self._begins_anew(opening.group_id):
                await self._open(opening)
            return
        if saved is not None:
            await self._counting.save_header(opening.group_id, saved, opening.expires)
        counted = await self._counting.begin(opening.group_id, opening.expires)
        if counted >= opening.size:  # nobody who hands in a part will find it complete
            await self._states.enlist(opening.group_id, state.expires)

    async def _begins_anew(self, group_id: str) -> bool:
        """Forget a chord that has expired; False if it hasn't, but was closed."""
        forgotten = await self._states.forget_if_expired(group_id)
        if forgotten:
            await self._counting.delete_counts(group_id)
        return forgotten

    async def _join(self, group_id: str, parts: Sequence[ChordPart], lease: float) -> ChordClaim | None:
        for batch in _batches(parts):
            counted = await self._counting.add(batch)
            if not counted and not (await self._begins_anew(group_id) and await self._counting.add(batch)):
                return None
        state = await self._states.get(group_id)
        if state is not None and state.size is None:
            state = await self._learn_size(group_id)
        return None if state is None else await self._claim_if_complete(group_id, state, lease, body=parts[-1].body)

    async def _learn_size(self, group_id: str) -> ChordState | None:
        """Of a chord that a client of Celery's has opened: as many as its header has members."""
        saved = await self._counting.header(group_id)
        if saved is None:
            return None
        try:
            size = sum(1 for _ in group_of(saved).task_ids())
        except DecodeError as error:
            logger.warning("Chord %s: its saved header can't be read: %s", group_id, error)
            return None
        return await self._states.set_size(group_id, size)

    async def _claim_if_complete(
        self, group_id: str, state: ChordState, lease: float, *, body: bytes = b""
    ) -> ChordClaim | None:
        """What one of Celery's parts has completed is Celery's to end: ours have counted less.

        `body` is what a part has brought along. Where none is known, a part that comes again must bring it.
        """
        if not (state.body or body):
            return None
        if state.size is None or state.closed or state.until > self._clock.wall():
            return None
        if await self._counting.counted(group_id) < state.size:
            return None
        await self._states.enlist(group_id, state.expires)
        taken = await self._states.claim(group_id, self._new_id(), lease)
        if taken is None or taken.token is None:
            return None
        saved = await self._counting.header(group_id) if taken.saved else None
        return ChordClaim(group_id=group_id, token=taken.token, body=taken.body or body, saved=saved)

    async def _parts(self, group_id: str) -> AsyncGenerator[list[bytes]]:
        await self._shared.ready()
        async for page in self._counting.members(group_id):
            if page:
                yield page

    async def _close(self, claim: ChordClaim) -> None:
        """Each step may be the last one of a process: closing again does the rest."""
        before = await self._states.close(claim, CLOSED)
        if before is None:
            return
        await self._counting.delete_counts(claim.group_id)
        # Others are deleted by DynamoDB, which takes nothing for it. Of what was closed before nobody knows.
        if before.expires >= FOR_EVER or before.closed:
            await self._counting.delete_members(claim.group_id)
        await self._states.unlist(claim.group_id)


def _batches(parts: Sequence[ChordPart]) -> list[list[ChordPart]]:
    """Parts of one chord, each once, as many at a time as a transaction takes."""
    batches: list[list[ChordPart]] = []
    size = 0
    for part in {(part.index, part.task_id): part for part in parts}.values():
        size += len(part.member)
        if not batches or len(batches[-1]) == _BATCH_PARTS or size > _BATCH_BYTES:
            batches.append([])
            size = len(part.member)
        batches[-1].append(part)
    return batches


if TYPE_CHECKING:
    _chords: type[Chords] = DynamoChords
