"""One at a time may send the body, and when he doesn't another one may."""

from __future__ import annotations

import asyncio

from asyncq.driver import ChordClaim, Chords
from asyncq.testing._joining_kit import (
    BODY,
    LONG,
    SHORT,
    JoiningFixtures,
    NewBackend,
    becomes_overdue,
    claimed,
    join,
    members,
    open_chord,
    overdue,
    part,
)
from asyncq.testing._kit import environment, within


class Claiming(JoiningFixtures):
    async def test_of_many_at_once_one_gets_the_claim(self, new_backend: NewBackend, group: str) -> None:
        workers = [(await new_backend()).chords for _ in range(4)]
        await open_chord(workers[0], group, 4)
        parts = [part(group, index) for index in range(4)]

        claims: list[list[ChordClaim]] = await within(
            asyncio.gather(*(worker.join(parts[at:] + parts[:at], lease=LONG) for at, worker in enumerate(workers)))
        )

        assert sum(map(len, claims)) == 1

    async def test_while_one_has_the_claim_nobody_else_gets_it(
        self, new_backend: NewBackend, chords: Chords, group: str
    ) -> None:
        await claimed(chords, group, lease=LONG)
        elsewhere = (await new_backend()).chords

        assert await join(elsewhere, part(group, 0)) is None
        assert await overdue(elsewhere, group) == []

    async def test_a_claim_ends_and_a_part_that_comes_again_gets_the_next(
        self, new_backend: NewBackend, chords: Chords, group: str
    ) -> None:
        first = await claimed(chords, group, lease=SHORT)
        elsewhere = (await new_backend()).chords

        async def again() -> ChordClaim:
            while (claim := await join(elsewhere, part(group, 1))) is None:
                await asyncio.sleep(0.02)
            return claim

        second = await within(again())

        assert second.token != first.token
        assert second.body == BODY
        assert await members(elsewhere, second) == [part(group, 0).member, part(group, 1).member]
        assert not await within(chords.renew(first))

    async def test_a_chord_whose_claim_has_ended_is_overdue(
        self, new_backend: NewBackend, chords: Chords, group: str
    ) -> None:
        waiting = environment.new_id()
        await open_chord(chords, waiting, 2)
        await join(chords, part(waiting, 0))
        first = await claimed(chords, group, lease=SHORT)
        elsewhere = (await new_backend()).chords

        second = await becomes_overdue(elsewhere, group)

        assert second.token != first.token
        assert (second.body, second.saved) == (BODY, None)
        assert await members(elsewhere, second) == [part(group, 0).member, part(group, 1).member]
        assert await overdue(chords, group, waiting) == []

    async def test_of_many_who_look_one_finds_it(self, new_backend: NewBackend, chords: Chords, group: str) -> None:
        workers = [(await new_backend()).chords for _ in range(4)]
        await claimed(chords, group, lease=SHORT)
        await claims_end(chords)

        found = await within(asyncio.gather(*(overdue(worker, group) for worker in workers)))

        assert sum(map(len, found)) == 1

    async def test_what_is_complete_when_it_is_opened_is_overdue(self, chords: Chords, group: str) -> None:
        await join(chords, part(group, 0), part(group, 1))
        await open_chord(chords, group, 2)

        (claim,) = await overdue(chords, group)

        assert len(await members(chords, claim)) == 2

    async def test_no_more_are_claimed_than_asked_for(self, chords: Chords) -> None:
        groups = [environment.new_id() for _ in range(3)]
        for group in groups:
            await join(chords, part(group, 0))
            await open_chord(chords, group, 1)

        found: set[str] = set()
        for _ in range(300):  # what other tests have left may come first
            claims: list[ChordClaim] = await within(chords.overdue(1, lease=LONG))
            assert len(claims) <= 1
            found |= {claim.group_id for claim in claims}
            if found.issuperset(groups):
                break

        assert found.issuperset(groups)

    async def test_renewing_makes_it_last(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group, lease=SHORT)
        witness = environment.new_id()

        assert await within(chords.renew(claim, lease=LONG))

        await claimed(chords, witness, lease=SHORT)
        await becomes_overdue(chords, witness)
        assert await join(chords, part(group, 0)) is None
        assert await overdue(chords, group) == []

    async def test_a_claim_that_has_ended_is_renewed_if_nobody_has_another(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group, lease=SHORT)
        await claims_end(chords)

        assert await within(chords.renew(claim))

        assert await overdue(chords, group) == []


class Closing(JoiningFixtures):
    async def test_a_closed_chord_is_over(self, new_backend: NewBackend, chords: Chords, group: str) -> None:
        """Late parts, a header that is sent again, another claim: nothing brings it back."""
        claim = await claimed(chords, group, lease=SHORT)
        await within(chords.close(claim))
        elsewhere = (await new_backend()).chords

        assert await join(elsewhere, part(group, 0), part(group, 1)) is None
        await open_chord(elsewhere, group, 2)
        assert await join(elsewhere, part(group, 0), part(group, 1), part(group, 2)) is None
        await within(elsewhere.grow(group, -1, name="more"))
        assert not await within(chords.renew(claim))
        assert await overdue(elsewhere, group) == []

    async def test_closing_twice_is_closing_once(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group)
        await within(chords.close(claim))
        await within(chords.close(claim))

        assert await join(chords, part(group, 0)) is None

    async def test_whoever_lost_the_claim_closes_nothing(self, chords: Chords, group: str) -> None:
        first = await claimed(chords, group, lease=SHORT)
        second = await becomes_overdue(chords, group)

        await within(chords.close(first))

        assert len(await members(chords, second)) == 2
        assert await within(chords.renew(second))

    async def test_a_claim_that_ended_and_that_nobody_took_over_closes(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group, lease=SHORT)
        await claims_end(chords)

        await within(chords.close(claim))

        assert await overdue(chords, group) == []
        assert await join(chords, part(group, 0)) is None


async def claims_end(chords: Chords) -> None:
    """Wait until claims of `SHORT` seconds have ended: one that is taken now, the last of them, has."""
    witness = environment.new_id()
    await claimed(chords, witness, lease=SHORT)

    async def poll() -> None:
        while await join(chords, part(witness, 0)) is None:
            await asyncio.sleep(0.02)

    await within(poll())
