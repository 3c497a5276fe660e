"""Chains that are too long for their messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.kit import messages, wire_messages
from asyncq import AsyncQ, ChordError, Signature, chain, chord, group
from asyncq.canvas import ChainNode, ChordNode
from waiting import PATIENCE


def declared(queue: AsyncQ) -> Any:
    @queue.task(name="shop.add", queue="sums")
    async def add(a: int, b: int) -> int:
        if b < 0:
            raise ValueError("negative")
        return a + b

    return add


def total_of(queue: AsyncQ) -> Any:
    @queue.task(name="shop.total", queue="sums")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    return total


#: Where a chain of so many steps may stand; each begins with two tasks side by side that give 1 and 2.
PLACES: dict[str, Callable[[Any, Any, list[Signature[Any]]], Signature[Any]]] = {
    "behind a group": lambda header, total, steps: chain(header, total.s(), *steps),
    "the body of a chord": lambda header, total, steps: chord(header, chain(total.s(), *steps)),
    "the body of a body": lambda header, total, steps: chord(
        header, chord([total.s()], chain(total.s(), *steps))
    ),
    "behind a group in a group": lambda header, total, steps: group(chain(header, total.s(), *steps)) | total.s(),
    "the body of a chord in a chord": lambda header, total, steps: chord(
        [chord(header, chain(total.s(), *steps))], total.s()
    ),
}  # fmt: skip


async def test_each_message_of_a_long_chain_stays_small() -> None:
    queue = AsyncQ("shop", broker="memory://")
    add = declared(queue)
    async with queue:
        await chain(add.s(0, 1), *[add.s(1) for _ in range(10_000)]).send()
        (message,) = await wire_messages(queue, "sums")
    assert len(message.body) < 100_000


@pytest.mark.parametrize("place", PLACES)
async def test_each_message_before_a_long_chain_stays_small(place: str) -> None:
    queue = AsyncQ("shop", broker="memory://", backend="memory://", longest_chain=10)
    add, total = declared(queue), total_of(queue)
    async with queue:
        await PLACES[place](group(add.s(0, 1), add.s(1, 1)), total, [add.s(1) for _ in range(200)]).send()
        sent = await wire_messages(queue, "sums")
    assert len(sent) == 2
    assert max(message.body.count(b'"shop.add"') for message in sent) <= 10


async def test_for_celerys_workers_all_of_it_stays_in_the_message() -> None:
    queue = AsyncQ("shop", broker="memory://", backend="memory://", longest_chain=0)
    add, total = declared(queue), total_of(queue)
    steps = [add.s(1) for _ in range(1000)]
    async with queue:
        await chain(add.s(0, 1), *steps).send()
        await chain(group(add.s(0, 1)), total.s(), *steps).send()
        sent = await wire_messages(queue, "sums")
    assert [message.body.count(b'"shop.add"') for message in sent] == [1000, 1000]


@pytest.mark.parametrize("steps", [9, 10, 11, 12, 35])
async def test_a_chain_in_pieces_is_run_to_its_end(steps: int) -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=10)
    add = declared(queue)
    async with queue, queue.worker(queues=["sums"]):
        result = await chain(add.s(0, 1), *[add.s(1) for _ in range(steps)]).send()
        assert await result.get(PATIENCE) == steps + 1


@pytest.mark.parametrize("place", PLACES)
async def test_it_is_run_to_its_end_wherever_it_stands(place: str) -> None:
    queue = AsyncQ("shop", broker="memory://", backend="memory://", longest_chain=10)
    add, total = declared(queue), total_of(queue)
    async with queue, queue.worker(queues=["sums"]):
        workflow = PLACES[place](group(add.s(0, 1), add.s(1, 1)), total, [add.s(1) for _ in range(35)])
        assert await (await workflow.send()).get(PATIENCE) == 38


async def test_a_failure_ends_what_waits_behind_the_pieces() -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=10)
    add = declared(queue)
    async with queue, queue.worker(queues=["sums"]):
        result = await chain(add.s(0, 1), add.s(-1), *[add.s(1) for _ in range(30)]).send()
        with pytest.raises(ValueError, match="negative"):
            await result.get(PATIENCE)


@pytest.mark.parametrize("place", PLACES)
async def test_a_failed_header_ends_what_waits_behind_its_body(place: str) -> None:
    queue = AsyncQ("shop", broker="memory://", backend="memory://", longest_chain=10)
    add, total = declared(queue), total_of(queue)
    async with queue, queue.worker(queues=["sums"]):
        workflow = PLACES[place](group(add.s(0, 1), add.s(1, -1)), total, [add.s(1) for _ in range(35)])
        with pytest.raises(ChordError, match="negative"):
            await (await workflow.send()).get(PATIENCE)


async def test_what_is_linked_to_it_is_called_at_its_end() -> None:
    queue = AsyncQ("shop", broker="memory://", backend="memory://", longest_chain=10)
    add, total = declared(queue), total_of(queue)
    told: list[int] = []

    @queue.task(name="shop.tell", queue="sums")
    async def tell(value: int) -> None:
        told.append(value)

    async with queue:
        body = chain(total.s(), *[add.s(1) for _ in range(35)]).link(tell.s())
        result = await chord([add.s(0, 1)], body).send()
        async with queue.worker(queues=["sums"]):
            assert await result.get(PATIENCE) == 36
    assert told == [36]


async def test_the_step_that_names_a_piece_fails_as_the_one_that_it_stands_for() -> None:
    queue = AsyncQ("shop", broker="memory://", longest_chain=10)
    add = declared(queue)
    async with queue:
        await chain(add.s(0, 1), *[add.s(1) for _ in range(30)]).link_error(add.si(0, 0)).send()
        (message,) = await messages(queue, "sums")
    assert message.chain is not None
    rest, *_ = message.chain
    assert rest["task"] == "asyncq.chain_rest"
    assert [each["args"] for each in rest["options"]["link_error"]] == [[0, 0]]


def test_what_follows_a_group_is_put_together_once(queue: AsyncQ) -> None:
    """It was as often as there are steps: 8 s for 4,000."""
    add, total = declared(queue), total_of(queue)
    made = chain(group(add.s(0, 1), add.s(1, 1)), total.s(), *[add.s(1) for _ in range(20_000)]).node
    assert isinstance(made, ChordNode)
    assert isinstance(made.body, ChainNode)
    assert len(made.body.tasks) == 20_001
