"""The fixtures of the suite for chords, and the few verbs that its tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, Protocol, cast

import pytest

from asyncq.driver import ChordClaim, ChordOpening, ChordPart, Chords, Joining, ResultBackend
from asyncq.protocol import encode_part
from asyncq.testing._backend_kit import Freeze, Restart
from asyncq.testing._kit import environment, within

#: Seconds: for chords that shall outlive the test.
LONG = 300.0

#: Seconds of a claim whose end a test waits for.
SHORT = 0.3

BODY = b'{"body": {"task": "contract.body"}}'


class JoiningBackend(ResultBackend, Joining, Protocol):
    """A result backend that joins."""


class MakeBackend(Protocol):
    """Makes a further, unopened instance on the same store, as another process would."""

    def __call__(self, *, timeout: float = 10.0) -> JoiningBackend: ...


class NewBackend(Protocol):
    """Makes a further instance and opens it; the suite closes it."""

    async def __call__(self, *, timeout: float = 10.0) -> JoiningBackend: ...


class JoiningFixtures:
    """What a driver's test class overrides, and what the suite makes of it."""

    #: Parts of a large chord; fewer for a store that takes long for each.
    many: ClassVar[int] = 10_000

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        raise NotImplementedError("override make_backend: asyncq.testing says how")

    @pytest.fixture
    def restart(self) -> Restart:
        pytest.skip("no `restart` fixture: the store has no server to restart")

    @pytest.fixture
    def freeze(self) -> Freeze:
        pytest.skip("no `freeze` fixture: the store has no server to freeze")

    @pytest.fixture
    async def new_backend(self, make_backend: MakeBackend) -> AsyncIterator[NewBackend]:
        async with AsyncExitStack() as opened:

            async def new_backend(*, timeout: float = 10.0) -> JoiningBackend:
                backend = make_backend(timeout=timeout)
                opened.push_async_callback(backend.close)
                await within(backend.open())
                return backend

            yield new_backend

    @pytest.fixture
    async def backend(self, new_backend: NewBackend) -> JoiningBackend:
        return await new_backend()

    @pytest.fixture
    def chords(self, backend: JoiningBackend) -> Chords:
        return backend.chords

    @pytest.fixture
    def group(self) -> str:
        """A group id that nobody else knows."""
        return environment.new_id()


def part(group: str, index: int | None, *, task_id: str | None = None, expires: float | None = LONG) -> ChordPart:
    """The part of a task that returned its index. Called again it is the same one."""
    task_id = task_id or f"{group}-{index}"
    return ChordPart(
        group_id=group,
        task_id=task_id,
        index=index,
        member=encode_part(task_id, "SUCCESS", index),
        body=BODY,
        expires=expires,
    )


async def open_chord(
    chords: Chords, group: str, size: int, *, saved: bytes | None = None, expires: float | None = LONG
) -> None:
    await within(chords.open([ChordOpening(group_id=group, size=size, saved=saved, expires=expires)]))


async def join(chords: Chords, *parts: ChordPart, lease: float = LONG) -> ChordClaim | None:
    """Hand in parts of one chord."""
    claims = await within(chords.join(parts, lease=lease))
    assert len(claims) <= 1
    return claims[0] if claims else None


async def claimed(chords: Chords, group: str, *, size: int = 2, lease: float = LONG) -> ChordClaim:
    """Open a chord, complete it, and return the claim."""
    await open_chord(chords, group, size)
    claim = await join(chords, *(part(group, index) for index in range(size)), lease=lease)
    assert claim is not None
    return claim


async def members(chords: Chords, claim: ChordClaim) -> list[bytes]:
    async def read() -> list[bytes]:
        return [member async for batch in chords.members(claim) for member in batch]

    return cast("list[bytes]", await within(read()))


async def overdue(chords: Chords, *groups: str, limit: int = 1000, lease: float = LONG) -> list[ChordClaim]:
    """Those of some chords: other tests have left theirs in the store."""
    claims: Sequence[ChordClaim] = await within(chords.overdue(limit, lease=lease))
    return [claim for claim in claims if claim.group_id in groups]


async def becomes_overdue(chords: Chords, group: str) -> ChordClaim:
    """Wait until a chord has lost its claim, and take it."""

    async def poll() -> ChordClaim:
        while not (found := await overdue(chords, group)):
            await asyncio.sleep(0.02)
        return found[0]

    return cast("ChordClaim", await within(poll()))
