"""Unique tasks and idempotency keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError, Context, DuplicateTaskError, EncodeError, Unique
from asyncq._unique import HEADER, claim_of_header


@pytest.fixture
async def queue() -> AsyncIterator[AsyncQ]:
    async with AsyncQ("shop", broker="memory://", backend="memory://") as queue:
        yield queue


async def depth(queue: AsyncQ) -> int:
    broker = queue.make_broker()
    try:
        return (await broker.depth("celery")).ready
    finally:
        await broker.close()


async def test_a_second_send_gets_the_handle_of_the_first(queue: AsyncQ) -> None:
    @queue.task(unique=True)
    async def sync_user(user: int, full: bool = False) -> int:
        return user

    first = await sync_user.send(7)
    again = await sync_user.send(user=7)
    other = await sync_user.send(8)
    assert (first.duplicate, again.duplicate, other.duplicate) == (False, True, False)
    assert again.task_id == first.task_id
    assert await depth(queue) == 2
    async with queue.worker():
        assert await again.get(timeout=5) == 7
        assert await other.get(timeout=5) == 8
    assert not (await sync_user.send(7)).duplicate  # it has ended, so another may come


async def test_only_the_chosen_arguments_count(queue: AsyncQ) -> None:
    @queue.task(unique=Unique(by="user"))
    async def sync_user(user: int, reason: str) -> None: ...

    assert not (await sync_user.send(7, "a")).duplicate
    assert (await sync_user.send(7, "b")).duplicate
    assert not (await sync_user.send(8, "b")).duplicate


async def test_one_of_fifty_wins(queue: AsyncQ) -> None:
    @queue.task(unique=True)
    async def only() -> None: ...

    results = await asyncio.gather(*[only.send() for _ in range(50)])
    assert sum(not result.duplicate for result in results) == 1
    assert len({result.task_id for result in results}) == 1
    assert await depth(queue) == 1


async def test_a_batch_is_sifted(queue: AsyncQ) -> None:
    @queue.task(unique=True)
    async def only(number: int) -> None: ...

    results = await queue.send_many([only.s(1), only.s(2), only.s(1)])
    assert [result.duplicate for result in results] == [False, False, True]
    assert await depth(queue) == 2


async def test_queued_lets_the_next_one_in_when_the_first_starts(queue: AsyncQ) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    @queue.task(unique=Unique(scope="queued"))
    async def holds() -> None:
        running.set()
        await release.wait()

    first = await holds.send()
    assert (await holds.send()).duplicate
    async with queue.worker():
        await running.wait()
        async with asyncio.timeout(5):
            while (await holds.send()).duplicate:
                await asyncio.sleep(0.001)
        release.set()
        await first.get(timeout=5)


async def test_running_keeps_others_away_through_retries(queue: AsyncQ) -> None:
    @queue.task(unique=True, max_retries=1)
    async def flaky(ctx: Context) -> int:
        if ctx.retries == 0:
            raise ctx.retry(countdown=0.05)
        return ctx.retries

    first = await flaky.send()
    async with queue.worker():
        async for state in first:
            if state.status == "RETRY":
                assert (await flaky.send()).duplicate
        assert await first.get(timeout=5) == 1
        async with asyncio.timeout(5):
            while (await flaky.send()).duplicate:
                await asyncio.sleep(0.001)


async def test_a_failure_ends_it_as_well(queue: AsyncQ) -> None:
    @queue.task(unique=True)
    async def fails() -> None:
        raise ValueError("no")

    async with queue.worker():
        with pytest.raises(ValueError, match="no"):
            await (await fails.send()).get(timeout=5)
        async with asyncio.timeout(5):
            while (await fails.send()).duplicate:
                await asyncio.sleep(0.001)


async def test_a_window_is_counted_from_the_send(queue: AsyncQ) -> None:
    @queue.task(unique=Unique(scope=0.2))
    async def quick() -> None: ...

    async with queue.worker():
        await (await quick.send()).get(timeout=5)
        assert (await quick.send()).duplicate
        async with asyncio.timeout(5):
            while (await quick.send()).duplicate:
                await asyncio.sleep(0.01)


async def test_a_second_send_can_be_skipped_or_refused(queue: AsyncQ) -> None:
    @queue.task(unique=Unique(on_conflict="skip"))
    async def skips() -> int:
        return 1

    @queue.task(unique=Unique(on_conflict="raise"))
    async def raises() -> int:
        return 1

    await skips.send()
    assert await (await skips.send()).get(timeout=1) is None
    first = await raises.send()
    with pytest.raises(DuplicateTaskError) as caught:
        await raises.send()
    assert caught.value.task_id == first.task_id


async def test_an_idempotency_key_rejects_the_second_send(queue: AsyncQ) -> None:
    @queue.task
    async def pay(order: int) -> int:
        return order

    first = await pay.options(idempotency_key="order-17").send(17)
    again = await pay.options(idempotency_key="order-17").send(18)
    other = await pay.options(idempotency_key="order-18").send(18)
    assert (again.task_id, again.duplicate) == (first.task_id, True)
    assert not other.duplicate
    async with queue.worker():
        assert await again.get(timeout=5) == 17
    assert (await pay.options(idempotency_key="order-17").send(17)).duplicate


async def test_a_send_that_fails_leaves_no_claim(queue: AsyncQ) -> None:
    @queue.task(unique=Unique(by=[]))
    async def only(value: Any) -> None: ...

    with pytest.raises(EncodeError):
        await only.send(object())
    assert not (await only.send(1)).duplicate


async def test_send_sync_obeys_it(queue: AsyncQ) -> None:
    @queue.task(unique=True)
    async def only() -> None: ...

    assert not (await only.send()).duplicate
    assert (await asyncio.to_thread(only.send_sync)).duplicate
    queue._portal.close()


async def test_a_parameter_that_is_none_is_refused_at_the_declaration(queue: AsyncQ) -> None:
    with pytest.raises(ConfigurationError, match="no parameter 'colour'"):

        @queue.task(unique=Unique(by="colour"))
        async def only(user: int) -> None: ...


@pytest.mark.parametrize(
    "header",
    [None, "x", {}, {"key": "revocations", "scope": "running"}, {"key": "unique.x", "scope": "ever"}, {"key": 1}],
)
def test_a_hostile_header_reaches_no_other_fact(header: object) -> None:
    assert claim_of_header({HEADER: header}) is None


async def test_a_claim_that_nobody_gave_back_keeps_nobody_away_once_its_task_has_ended(queue: AsyncQ) -> None:
    """A Celery worker ran it, or a worker died right after it had stored the result."""
    from asyncq.driver import StoredResult
    from asyncq.protocol import ResultRecord, encode_result

    @queue.task(unique=True)
    async def only() -> int:
        return 1

    first = await only.send()
    backend = queue.make_backend()
    assert backend is not None
    record = encode_result(ResultRecord(task_id=first.task_id, status="SUCCESS", result=1))
    await backend.store([StoredResult(task_id=first.task_id, record=record, status="SUCCESS", expires=60)])
    second = await only.send()
    assert not second.duplicate
    assert (await only.send()).task_id == second.task_id
    await backend.close()
