"""What a chord does about members that failed stays its own, wherever it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from asyncq import AsyncQ, ChordError, Context, Signature, chain, chord, group
from asyncq.canvas import ChordNode, ChordPolicy, read_node
from waiting import PATIENCE


@pytest.fixture
async def shop(queue: AsyncQ) -> AsyncIterator[SimpleNamespace]:
    """The tasks of an app whose worker runs."""

    @queue.task
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @queue.task(throws=(ValueError,))
    async def fail(value: Any = None) -> None:
        raise ValueError("boom")

    @queue.task
    async def count(values: list[Any]) -> int:
        return len(values)

    @queue.task
    async def headers(ctx: Context, values: list[Any]) -> dict[str, Any]:
        return {name: value for name, value in ctx.headers.items() if name != "asyncq-dispatch"}

    async with queue, queue.worker():
        yield SimpleNamespace(add=add, fail=fail, count=count, headers=headers)


def half_failed(shop: SimpleNamespace, body: Signature[Any]) -> Signature[Any]:
    return chord([shop.add.s(1), shop.fail.s()], body, on_error="collect")


COLLECTED: dict[str, tuple[Callable[[SimpleNamespace], Signature[Any]], int]] = {
    "followed": (lambda s: half_failed(s, s.count.s()) | s.add.s(10), 12),
    "followed by several": (lambda s: half_failed(s, s.count.s()) | s.add.s(10) | s.add.s(100), 112),
    "behind a task, followed": (lambda s: s.add.s(1) | half_failed(s, s.count.s()) | s.add.s(10), 12),
    "with a chain for a body": (lambda s: half_failed(s, s.count.s() | s.add.s(10)), 12),
    "with a chain for a body, followed": (lambda s: half_failed(s, s.count.s() | s.add.s(10)) | s.add.s(100), 112),
    "with a group for a body, followed": (lambda s: half_failed(s, group(s.count.s(), s.count.s())) | s.count.s(), 2),
    "with headers of its own": (lambda s: half_failed(s, s.count.s()).set(headers={"own": 1}), 2),
    "with headers of its own, in a chain": (
        lambda s: chain(s.add.s(1), half_failed(s, s.count.s()).set(headers={"own": 1}), s.add.s(10)),
        12,
    ),
    "in a header": (lambda s: chord([half_failed(s, s.count.s()), s.add.s(1)], s.count.s()), 2),
}


@pytest.mark.parametrize("name", COLLECTED)
async def test_failures_are_collected(shop: SimpleNamespace, name: str) -> None:
    build, expected = COLLECTED[name]
    assert await (await build(shop).send()).get(PATIENCE) == expected


@pytest.mark.parametrize("before", [False, True])
async def test_a_chord_in_the_body_fails_as_it_would_alone(shop: SimpleNamespace, before: bool) -> None:
    inner: Any = chord([shop.add.s(), shop.fail.s()], shop.count.s())
    body = shop.count.s() | inner if before else inner
    with pytest.raises(ChordError):
        await (await chord([shop.add.s(1)], body, on_error="collect").send()).get(PATIENCE)


async def test_the_body_is_not_told(shop: SimpleNamespace) -> None:
    assert await (await half_failed(shop, shop.headers.s()).send()).get(PATIENCE) == {}
    body = shop.headers.s().set(headers={"own": 1})
    assert await (await half_failed(shop, body).send()).get(PATIENCE) == {"own": 1}


def test_each_of_nested_chords_keeps_its_own(queue: AsyncQ) -> None:
    @queue.task
    async def step(*values: Any) -> Any: ...

    inner = chord([step.s()], step.s(), on_error="collect", threshold=2)
    outer = chord([step.s()], inner, on_error="collect", threshold=0.5)
    document = outer.to_dict()
    read = read_node(document)
    assert read.to_dict() == document
    assert isinstance(read, ChordNode)
    assert isinstance(read.body, ChordNode)
    assert [each.policy and each.policy.threshold for each in (read, read.body)] == [0.5, 2]
    assert "headers" not in read.body.options


def test_a_share_is_met_by_just_so_many() -> None:
    """0.07 of 100 is a little more than 7 in floating point."""
    for total in (10, 20, 50, 100, 1000):
        for succeeded in range(1, total):
            policy = ChordPolicy(on_error="collect", threshold=succeeded / total)
            assert policy.is_met(succeeded, total)
            assert not policy.is_met(succeeded - 1, total)
