"""Chains that are too long for their messages."""

from __future__ import annotations

from typing import Any

import pytest

from app.kit import wire_messages
from asyncq import AsyncQ, chain


def declared(queue: AsyncQ) -> Any:
    @queue.task(name="shop.add", queue="sums")
    async def add(a: int, b: int) -> int:
        if b < 0:
            raise ValueError("negative")
        return a + b

    return add


async def test_each_message_of_a_long_chain_stays_small() -> None:
    queue = AsyncQ("shop", broker="memory://")
    add = declared(queue)
    async with queue:
        await chain(add.s(0, 1), *[add.s(1) for _ in range(10_000)]).send()
        (message,) = await wire_messages(queue, "sums")
    assert len(message.body) < 100_000


async def test_for_celerys_workers_all_of_it_stays_in_the_message() -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=0)
    add = declared(queue)
    async with queue:
        await chain(add.s(0, 1), *[add.s(1) for _ in range(1000)]).send()
        (message,) = await wire_messages(queue, "sums")
    assert message.body.count(b'"shop.add"') == 1000


@pytest.mark.parametrize("steps", [9, 10, 11, 12, 35])
async def test_a_chain_in_pieces_is_run_to_its_end(steps: int) -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=10)
    add = declared(queue)
    async with queue, queue.worker(queues=["sums"]):
        result = await chain(add.s(0, 1), *[add.s(1) for _ in range(steps)]).send()
        assert await result.get(20) == steps + 1


async def test_a_failure_ends_what_waits_behind_the_pieces() -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=10)
    add = declared(queue)
    async with queue, queue.worker(queues=["sums"]):
        result = await chain(add.s(0, 1), add.s(-1), *[add.s(1) for _ in range(30)]).send()
        with pytest.raises(ValueError, match="negative"):
            await result.get(20)
