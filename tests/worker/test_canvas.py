"""What a worker does about callbacks, chains, groups and chords."""

from __future__ import annotations

from typing import Any

import pytest

from worker.canvas_bench import CanvasBench, chain, chord, group, sig


@pytest.fixture
def bench() -> CanvasBench:
    bench = CanvasBench()

    async def add(x: int, y: int) -> int:
        return x + y

    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    async def echo(*args: Any) -> list[Any]:
        return list(args)

    async def fail(*_: Any) -> None:
        raise ValueError("boom", 1)

    for task in (add, total, echo):
        bench.task(task)
    bench.task(fail, throws=(ValueError,))
    return bench


async def test_a_chain_hands_each_result_on(bench: CanvasBench) -> None:
    last = await bench.start(chain(sig("add", 1, 2), sig("add", 3), sig("add", 4)))
    async with bench.worker():
        assert await bench.value(last) == 10


async def test_a_chord_gives_its_body_the_results_in_order(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("add", n, n) for n in range(20)], sig("echo")))
    async with bench.worker():
        assert await bench.value(body) == [[2 * n for n in range(20)]]


async def test_a_chord_in_a_chain(bench: CanvasBench) -> None:
    last = await bench.start(
        chain(sig("add", 1, 1), group(sig("add", 10), sig("add", 20)), sig("total"), sig("add", 100))
    )
    async with bench.worker():
        assert await bench.value(last) == 134


async def test_a_failed_header_task_fails_the_body(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("add", 1, 1), sig("fail"), sig("add", 2, 2)], sig("total")))
    async with bench.worker():
        kind, [text] = await bench.error(body)
    assert kind == "ChordError"
    assert text.endswith("raised ValueError('boom', 1)")
