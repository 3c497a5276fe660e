"""Parts are counted once each, and come out in their order."""

from __future__ import annotations

import asyncio
import random

import pytest

from asyncq.driver import ChordPart, Chords
from asyncq.errors import BackendError
from asyncq.protocol import SavedGroup, encode_group, encode_part
from asyncq.testing._backend_kit import gone, result, store, success
from asyncq.testing._joining_kit import (
    BODY,
    LONG,
    JoiningBackend,
    JoiningFixtures,
    NewBackend,
    claimed,
    join,
    members,
    open_chord,
    part,
)
from asyncq.testing._kit import environment, within

#: Parts that are handed in by one call.
_BATCH = 400


class Counting(JoiningFixtures):
    async def test_the_last_part_gets_the_claim(self, chords: Chords, group: str) -> None:
        await open_chord(chords, group, 3)
        assert await join(chords, part(group, 2)) is None
        assert await join(chords, part(group, 0)) is None

        claim = await join(chords, part(group, 1))

        assert claim is not None
        assert (claim.group_id, claim.body, claim.saved) == (group, BODY, None)
        assert await members(chords, claim) == [part(group, index).member for index in range(3)]

    async def test_a_part_counts_once(self, new_backend: NewBackend, chords: Chords, group: str) -> None:
        """Also when its second run had another value: the first one's stays."""
        elsewhere = (await new_backend()).chords
        await open_chord(chords, group, 2)
        again = ChordPart(
            group_id=group,
            task_id=part(group, 0).task_id,
            index=0,
            member=encode_part(part(group, 0).task_id, "SUCCESS", "another"),
            body=BODY,
            expires=LONG,
        )

        assert await join(chords, part(group, 0), part(group, 0)) is None
        assert await join(chords, part(group, 0)) is None
        assert await join(elsewhere, again) is None

        claim = await join(elsewhere, part(group, 1))
        assert claim is not None
        assert await members(chords, claim) == [part(group, 0).member, part(group, 1).member]

    async def test_a_task_at_two_places_counts_twice(self, chords: Chords, group: str) -> None:
        await open_chord(chords, group, 2)
        assert await join(chords, part(group, 0, task_id="same" + group)) is None

        assert await join(chords, part(group, 1, task_id="same" + group)) is not None

    async def test_parts_before_the_opening_count(self, chords: Chords, group: str) -> None:
        assert await join(chords, part(group, 0), part(group, 1)) is None
        await open_chord(chords, group, 3)

        claim = await join(chords, part(group, 2))

        assert claim is not None
        assert len(await members(chords, claim)) == 3

    async def test_a_chord_that_nobody_opened_waits(self, chords: Chords, group: str) -> None:
        assert await join(chords, part(group, 0)) is None
        assert await join(chords, part(group, 0), part(group, 1)) is None

    async def test_opening_again_changes_nothing(self, chords: Chords, group: str) -> None:
        await open_chord(chords, group, 2)
        await join(chords, part(group, 0))
        await open_chord(chords, group, 2)

        assert await join(chords, part(group, 1)) is not None

    async def test_opening_again_what_is_claimed_takes_no_claim_away(self, chords: Chords, group: str) -> None:
        claim = await claimed(chords, group)
        await open_chord(chords, group, 2)

        assert await join(chords, part(group, 0)) is None
        assert await within(chords.renew(claim))

    async def test_one_call_for_several_chords(self, chords: Chords) -> None:
        groups = [environment.new_id() for _ in range(5)]
        for group in groups[:4]:
            await open_chord(chords, group, 2)
        parts = [part(group, index) for index in (0, 1) for group in groups]
        parts.remove(part(groups[2], 1))

        claims = await within(chords.join(parts, lease=LONG))

        assert {claim.group_id for claim in claims} == {groups[0], groups[1], groups[3]}
        assert len({claim.token for claim in claims}) == 3
        for claim in claims:
            assert await members(chords, claim) == [part(claim.group_id, 0).member, part(claim.group_id, 1).member]

    async def test_a_chord_that_grows_waits_for_more(self, chords: Chords, group: str) -> None:
        await open_chord(chords, group, 2)
        await join(chords, part(group, 0))
        await within(chords.grow(group, 2, name="more", expires=LONG))
        added = [part(group, 0, task_id=f"{group}-added-{number}") for number in range(2)]

        assert await join(chords, added[0]) is None
        assert await join(chords, part(group, 1)) is None
        claim = await join(chords, added[1])

        assert claim is not None
        assert await members(chords, claim) == [
            part(group, 0).member,
            *(a.member for a in added),
            part(group, 1).member,
        ]

    async def test_it_grows_once_by_a_name(self, new_backend: NewBackend, chords: Chords, group: str) -> None:
        """A task that runs again says it again, maybe elsewhere, also when it heard no answer to the first time."""
        elsewhere = (await new_backend()).chords
        await open_chord(chords, group, 1)
        for name in ("task.0", "task.1", "task.0"):
            await within(chords.grow(group, 1, name=name, expires=LONG))
        await within(elsewhere.grow(group, 1, name="task.1", expires=LONG))

        assert await join(chords, part(group, 0), part(group, 1)) is None
        claim = await join(elsewhere, part(group, 2))

        assert claim is not None
        assert await members(chords, claim) == [part(group, index).member for index in range(3)]

    async def test_it_may_grow_before_it_is_opened(self, chords: Chords, group: str) -> None:
        await within(chords.grow(group, 1, name="more"))
        await open_chord(chords, group, 1)

        assert await join(chords, part(group, 0)) is None
        assert await join(chords, part(group, 1)) is not None

    async def test_empty_calls_are_nothing(self, chords: Chords) -> None:
        await within(chords.open([]))
        assert await within(chords.join([])) == []
        assert await within(chords.overdue(0)) == []

    async def test_a_chord_expires(self, backend: JoiningBackend, chords: Chords, group: str) -> None:
        witness = environment.new_id()
        await open_chord(chords, group, 2, expires=1.0)
        await join(chords, part(group, 0, expires=1.0))
        await store(backend, witness, b"", expires=1.0)

        await gone(backend, witness)

        assert await join(chords, part(group, 1, expires=LONG)) is None


class Ordering(JoiningFixtures):
    async def test_members_come_by_index_those_without_last_and_equal_ones_by_text(
        self, chords: Chords, group: str
    ) -> None:
        placed = [(0, "z"), (1, "b"), (1, "c"), (2, "a"), (9, "x"), (10, "w"), (100, "v"), (None, "d"), (None, "e")]
        parts = [part(group, index, task_id=f"{name}-{group}") for index, name in placed]
        shuffled = random.Random(7).sample(parts, len(parts))  # noqa: S311 - an order, no secret
        await open_chord(chords, group, len(parts))

        claim = await join(chords, *shuffled)

        assert claim is not None
        assert await members(chords, claim) == [each.member for each in parts]

    async def test_members_come_byte_for_byte(self, chords: Chords, group: str) -> None:
        contents = [b"", b"\0celery-compressed\0", bytes(range(256)), b"x" * 300_000]
        parts = [
            ChordPart(group_id=group, task_id=f"t-{index}", index=index, member=content, body=BODY, expires=LONG)
            for index, content in enumerate(contents)
        ]
        await open_chord(chords, group, len(parts))

        claim = await join(chords, *parts)

        assert claim is not None
        assert await members(chords, claim) == contents

    async def test_a_large_chord(self, new_backend: NewBackend, group: str) -> None:
        """Two workers hand in its parts, each some that the other has handed in as well; one claim comes out."""
        workers = [(await new_backend()).chords for _ in range(2)]
        await open_chord(workers[0], group, self.many)
        parts = [part(group, index) for index in range(self.many)]
        shares = [parts[: self.many * 3 // 4], parts[self.many // 4 :]]

        async def work(chords: Chords, share: list[ChordPart]) -> int:
            batches = [share[start : start + _BATCH] for start in range(0, len(share), _BATCH)]
            return sum([len(await chords.join(batch, lease=LONG)) for batch in batches])

        claims = await within(asyncio.gather(*map(work, workers, shares)), 60.0)
        assert sum(claims) == 1
        assert await join(workers[0], parts[0]) is None

    async def test_members_of_a_large_chord_come_in_batches(self, chords: Chords, group: str) -> None:
        size = min(self.many, 2000)
        await open_chord(chords, group, size)
        parts = [part(group, index) for index in range(size)]
        claims = [
            claim
            for at in range(0, size, _BATCH)
            for claim in await within(chords.join(parts[at : at + _BATCH], lease=LONG))
        ]
        (claim,) = claims

        batches = [list(batch) async for batch in chords.members(claim)]

        assert [member for batch in batches for member in batch] == [each.member for each in parts]
        assert max(map(len, batches)) <= 1000

    async def test_where_the_header_was_saved_records_count(
        self, backend: JoiningBackend, chords: Chords, group: str
    ) -> None:
        tasks = [part(group, index).task_id for index in range(3)]
        saved = encode_group(
            SavedGroup(group_id=group, members=[tasks[1], SavedGroup(group_id="g", members=[tasks[2], tasks[0]])])
        )
        await within(backend.store([result(task, success(task, task), status="SUCCESS") for task in tasks]))
        await open_chord(chords, group, 3, saved=saved)

        claim = await join(chords, *(part(group, index) for index in range(3)))

        assert claim is not None
        assert claim.saved == saved
        assert await members(chords, claim) == [success(task, task) for task in (tasks[1], tasks[2], tasks[0])]

        await within(backend.forget([tasks[0]]))
        expected = [success(tasks[1], tasks[1]), success(tasks[2], tasks[2]), part(group, 0).member]
        assert await members(chords, claim) == expected, "the part of a task that keeps no record"

    async def test_a_member_without_record_and_part_is_an_error(
        self, backend: JoiningBackend, chords: Chords, group: str
    ) -> None:
        task_id = part(group, 0).task_id
        await within(backend.store([result(task_id, success(task_id), status="SUCCESS")]))
        saved = encode_group(SavedGroup(group_id=group, members=[task_id, f"{group}-gone"]))
        await open_chord(chords, group, 1, saved=saved)

        claim = await join(chords, part(group, 0))

        assert claim is not None
        with pytest.raises(BackendError, match=f"{group}-gone"):
            await members(chords, claim)
