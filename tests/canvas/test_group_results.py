"""Handles on what workflows have for results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq import AsyncQ, ChordError, GroupResult, ResultTimeout, chain, chord, group


class Shop:
    """An app with a worker beside it, and a task that waits for the test."""

    def __init__(self, queue: AsyncQ) -> None:
        self.queue = queue
        self.gate = asyncio.Event()

        @queue.task(name="shop.add")
        async def add(a: int, b: int = 0) -> int:
            return a + b

        @queue.task(name="shop.total")
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        @queue.task(name="shop.fail", max_retries=0)
        async def fail(reason: str) -> None:
            raise ValueError(reason)

        @queue.task(name="shop.hold")
        async def hold(number: int) -> int:
            await self.gate.wait()
            return number

        @queue.task(name="shop.same")
        async def same(values: list[Any]) -> list[Any]:
            return values

        self.add, self.total, self.fail, self.hold, self.same = add, total, fail, hold, same


@pytest.fixture
async def shop(queue: AsyncQ) -> AsyncIterator[Shop]:
    shop = Shop(queue)
    async with queue, queue.worker(shutdown_timeout=0.1):
        yield shop


async def test_values_come_in_order_and_results_as_they_end(shop: Shop) -> None:
    sent = await group(shop.hold.s(1), shop.add.s(2), shop.add.s(3)).send()
    ended: list[int] = []
    async for result in sent.as_completed():
        ended.append(await result.get(20))
        if len(ended) == 2:
            assert await sent.completed_count() == 2
            assert not await sent.ready()
            assert await sent.status() in {"STARTED", "PENDING"}
            shop.gate.set()
    assert (sorted(ended[:2]), ended[2]) == ([2, 3], 1)
    assert await sent.get(20) == await sent.join(20) == [1, 2, 3]
    assert await sent.successful()
    assert await sent.info() == [1, 2, 3]
    assert len(sent) == 3


async def test_a_failure_is_told_at_once_or_in_its_place(shop: Shop) -> None:
    sent = await group(shop.add.s(1), shop.fail.s("no"), shop.hold.s(3)).send()
    with pytest.raises(ValueError, match="no"):
        await sent.get(20)
    assert isinstance(await sent.get(20, propagate=False), ValueError)
    assert await sent.failed()
    with pytest.raises(ResultTimeout, match="group"):
        await sent.join(0.01, propagate=False)
    shop.gate.set()
    first, second, third = await sent.join(20, propagate=False)
    assert (first, type(second), third) == (1, ValueError, 3)
    assert await sent.ready()
    assert not await sent.successful()


async def test_the_states_of_a_group(shop: Shop) -> None:
    sent = await group(shop.add.s(1), shop.hold.s(2)).send()
    states: list[str] = []
    async for state in sent:
        states.append(state.status)
        shop.gate.set()
    assert states[-1] == "SUCCESS"
    assert set(states[:-1]) <= {"PENDING", "STARTED"}


async def test_groups_among_the_members_are_lists(shop: Shop) -> None:
    sent: Any = await group(shop.add.s(1, 1) | group(shop.add.s(1), shop.add.s(2)), shop.add.s(5)).send()
    assert await sent.get(20) == [[3, 4], 5]
    assert isinstance(sent.results[0], GroupResult)
    assert await sent.completed_count() == 3
    assert {each async for each in sent.as_completed()} == set(sent.results)


async def test_an_empty_group_has_ended(shop: Shop) -> None:
    sent = GroupResult[Any]("nothing", [], shop.queue.result("x")._reader)
    assert await sent.get(1) == await sent.join(1, propagate=False) == []
    assert [each async for each in sent.as_completed()] == []
    assert await sent.ready()


async def test_a_group_is_kept_and_found_again(shop: Shop) -> None:
    sent: Any = await group(shop.add.s(1, 1) | group(shop.add.s(1), shop.add.s(2)), shop.add.s(5)).send()
    assert await sent.get(20) == [[3, 4], 5]
    assert await shop.queue.restore_group(sent.task_id) is None
    await sent.save()
    found = await shop.queue.restore_group(sent.task_id)
    assert found is not None
    assert await found.get(20) == [[3, 4], 5]
    await found.forget()
    assert await shop.queue.restore_group(sent.task_id) is None
    assert await found.completed_count() == 0


async def test_nobody_waits_for_results_that_are_not_stored(shop: Shop) -> None:
    silent = shop.add.options(ignore_result=True)
    assert await (await chain(shop.add.s(1), silent.s(1)).send()).get(20) is None
    assert await (await group(shop.add.s(1), silent.s(1)).send()).get(20) == [1, None]


async def test_a_group_is_revoked(shop: Shop) -> None:
    sent = await group(shop.hold.s(1), shop.hold.s(2)).send()
    await sent.revoke(terminate=True)
    outcomes = await sent.join(20, propagate=False)
    assert ["revoked" in str(each) or "terminated" in str(each) for each in outcomes] == [True, True]


async def test_a_chord_names_the_member_that_failed(shop: Shop) -> None:
    result = await chord([shop.add.s(1), shop.fail.s("no")], shop.total.s()).send()
    assert isinstance(result.parent, GroupResult)
    culprit = result.parent.results[1].task_id
    with pytest.raises(ChordError, match=rf"Dependency {culprit} raised ValueError\('no'"):
        await result.get(20)


async def test_a_chord_that_collects_lives_with_what_failed(shop: Shop) -> None:
    header = [shop.add.s(1), shop.fail.s("no")]
    result: Any = await chord(header, shop.same.s(), on_error="collect").send()
    value, failure = await result.get(20)
    assert (value, failure["exc_type"], failure["exc_message"]) == (1, "ValueError", ["no"])
    too_few = await chord(header, shop.same.s(), on_error="collect", threshold=0.9).send()
    with pytest.raises(ChordError):
        await too_few.get(20)


async def test_a_chain_raises_what_a_step_raised(shop: Shop) -> None:
    result = await chain(shop.add.s(1), shop.fail.si("no"), shop.add.s(1), shop.add.s(1)).send()
    with pytest.raises(ValueError, match="no"):
        await result.get(20)


async def test_a_chain_ends_with_a_step_that_is_revoked(shop: Shop) -> None:
    result = await chain(shop.hold.s(1), shop.add.s(1)).send()
    assert result.parent is not None
    await result.parent.revoke(terminate=True)
    with pytest.raises(Exception, match=r"revoked|terminated"):
        await result.get(20)


async def test_what_followed_a_task_is_found_among_its_children(shop: Shop) -> None:
    result = await chain(shop.add.s(1), group(shop.add.s(1), shop.add.s(2))).send()
    assert await result.get(20) == [2, 3]
    assert result.parent is not None
    (following,) = await result.parent.children()
    assert isinstance(following, GroupResult)
    assert await following.get(20) == [2, 3]
    assert await following.children() == list(following.results)
