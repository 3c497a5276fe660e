"""Cancelled at any await, closed, restarted, frozen: the store stays right, and the next call gets its own answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import ChordClaim, ChordOpening, Chords, Joining
from asyncq.errors import BackendConnectionError
from asyncq.testing._backend_kit import Freeze, Restart, reconnected
from asyncq.testing._joining_kit import (
    LONG,
    SHORT,
    JoiningFixtures,
    MakeBackend,
    NewBackend,
    becomes_overdue,
    claimed,
    join,
    members,
    open_chord,
    part,
)
from asyncq.testing._kit import LATE, cancel_everywhere, environment, within


class CancellingJoining(JoiningFixtures):
    async def test_a_cancelled_opening(self, chords: Chords) -> None:
        """The chord is open or not; opened again it is."""
        group = environment.new_id()

        async def check() -> None:
            nonlocal group
            await open_chord(chords, group, 2)
            assert await join(chords, part(group, 0)) is None
            assert await join(chords, part(group, 1)) is not None
            group = environment.new_id()

        await cancel_everywhere(
            lambda: chords.open([ChordOpening(group_id=group, size=2, saved=None, expires=LONG)]), check
        )

    async def test_a_cancelled_join(self, chords: Chords) -> None:
        """Each part has been counted or not; handed in again they all are, once, and the claim is there in the end."""
        group = environment.new_id()
        await open_chord(chords, group, 3)

        async def check() -> None:
            nonlocal group
            parts = [part(group, index) for index in range(3)]
            while (claim := await join(chords, *parts, lease=SHORT)) is None:
                await asyncio.sleep(0.02)
            assert await members(chords, claim) == [each.member for each in parts]
            await within(chords.close(claim))
            assert await join(chords, *parts) is None
            group = environment.new_id()
            await open_chord(chords, group, 3)

        await cancel_everywhere(lambda: chords.join([part(group, index) for index in range(3)], lease=SHORT), check)

    async def test_a_cancelled_growth(self, chords: Chords) -> None:
        """It has counted once, or not at all."""
        group = environment.new_id()
        await open_chord(chords, group, 1)

        async def check() -> None:
            nonlocal group
            if await join(chords, part(group, 0)) is None:
                assert await join(chords, part(group, 1)) is not None
            group = environment.new_id()
            await open_chord(chords, group, 1)

        await cancel_everywhere(lambda: chords.grow(group, 1, name="more", expires=LONG), check)

    async def test_cancelled_members(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group, size=5)

        async def read() -> None:
            async for _ in chords.members(claim):
                pass

        async def check() -> None:
            assert await members(chords, claim) == [part(group, index).member for index in range(5)]

        await cancel_everywhere(read, check)

    async def test_a_cancelled_renewal(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group)

        async def check() -> None:
            assert await join(chords, part(group, 0)) is None

        await cancel_everywhere(lambda: chords.renew(claim, lease=LONG), check)
        assert await within(chords.renew(claim))

    async def test_a_cancelled_closing(self, chords: Chords) -> None:
        claim = await claimed(chords, environment.new_id())

        async def check() -> None:
            nonlocal claim
            await within(chords.close(claim))
            assert await join(chords, part(claim.group_id, 0)) is None
            claim = await claimed(chords, environment.new_id())

        await cancel_everywhere(lambda: chords.close(claim), check)

    async def test_a_cancelled_look_for_overdue_chords(self, chords: Chords, group: str) -> None:
        """What was claimed by it is overdue again later."""
        await join(chords, part(group, 0))
        await open_chord(chords, group, 1)

        async def check() -> None:
            claim = await becomes_overdue(chords, group)
            await within(chords.renew(claim, lease=SHORT / 10))

        await cancel_everywhere(lambda: chords.overdue(1000, lease=SHORT), check, at_most=15)


class JoiningLife(JoiningFixtures):
    async def test_it_is_found_before_anything_is_opened(self, make_backend: MakeBackend) -> None:
        backend = make_backend()

        assert isinstance(backend, Joining)
        assert backend.chords is backend.chords

    async def test_a_closed_backend_answers_no_more(self, new_backend: NewBackend, group: str) -> None:
        backend = await new_backend()
        claim = await claimed(backend.chords, group)
        await within(backend.close(), 2.0)

        for call in _calls(backend.chords, claim):
            with pytest.raises(BackendConnectionError):
                await within(call())

    async def test_a_restarted_server_serves_the_same_object(
        self, restart: Restart, chords: Chords, group: str
    ) -> None:
        done = await claimed(chords, environment.new_id())
        await within(chords.close(done))
        await open_chord(chords, group, 3)
        await join(chords, part(group, 0), part(group, 1))

        await restart()

        await reconnected(lambda: chords.join([part(group, 0)]))
        claim = await join(chords, part(group, 2))
        assert claim is not None
        assert len(await members(chords, claim)) == 3
        assert await join(chords, part(done.group_id, 0), part(done.group_id, 1)) is None

    async def test_no_call_hangs_on_a_frozen_server(
        self, freeze: Freeze, make_backend: MakeBackend, chords: Chords, group: str
    ) -> None:
        await open_chord(chords, group, 2)
        await join(chords, part(group, 0))
        claim = ChordClaim(group_id=environment.new_id(), token="none", body=b"")  # noqa: S106 - no password
        hurried = make_backend(timeout=0.5)
        try:
            await reconnected(hurried.open)
            await reconnected(lambda: hurried.chords.join([part(group, 0)]))

            async with freeze():
                with pytest.raises(BackendConnectionError):
                    await within(hurried.chords.join([part(environment.new_id(), 0)]), 0.5 + LATE)
                for call in _calls(hurried.chords, claim):
                    with contextlib.suppress(BackendConnectionError):
                        await within(call(), 0.5 + LATE)

            await reconnected(lambda: hurried.chords.join([part(group, 0)]))
        finally:
            await hurried.close()
        await reconnected(lambda: chords.join([part(group, 0)]))
        assert await join(chords, part(group, 1)) is not None


def _calls(chords: Chords, claim: ChordClaim) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """Every method."""

    async def read() -> None:
        async for _ in chords.members(claim):
            pass

    return [
        lambda: chords.open([ChordOpening(group_id=claim.group_id, size=1, expires=LONG)]),
        lambda: chords.grow(claim.group_id, 1, name="more", expires=LONG),
        lambda: chords.join([part(claim.group_id, 0)]),
        read,
        lambda: chords.renew(claim),
        lambda: chords.close(claim),
        lambda: chords.overdue(1),
    ]
