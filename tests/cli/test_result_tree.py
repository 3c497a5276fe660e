"""`asyncq result ID --tree`: a workflow with its states."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq import AsyncQ, chain, group
from cli.kit import Shell


@pytest.fixture
async def app(shell: Shell) -> AsyncIterator[AsyncQ]:
    """The shell's app in this process, with a worker beside it; records say the names of tasks."""
    shell.home.mkdir()
    url = f"sqlite:///{shell.home}/shop.sqlite"
    queue = AsyncQ("shop", broker=url, backend=url, result_extended=True)

    @queue.task(name="shop.add")
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @queue.task(name="shop.total")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(name="shop.fail", max_retries=0)
    async def fail(reason: str) -> None:
        raise ValueError(reason)

    async with queue, queue.worker():
        yield queue


async def test_the_whole_of_it_is_shown_whatever_part_is_asked_for(shell: Shell, app: AsyncQ) -> None:
    add, total = (app.tasks[name] for name in ("shop.add", "shop.total"))
    sent: Any = await chain(add.s(1, 2), group(add.s(10), add.s(20)), total.s()).send()
    assert await sent.get(20) == 36
    first, header = sent.parent.parent.task_id, sent.parent
    one, two = (each.task_id for each in header.results)
    shown = await shell.run("result", "shop:queue", sent.task_id, "--tree")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0] == f"SUCCESS shop.add {first}"
    assert lines[1] == f"└── SUCCESS group {header.task_id}"
    # The body is the child of the member that completed the header.
    assert {line.strip("│├└─ ") for line in lines[2:]} == {
        f"SUCCESS shop.add {one}",
        f"SUCCESS shop.add {two}",
        f"SUCCESS shop.total {sent.task_id} <",
    }
    told = await shell.run("result", "shop:queue", first, "--tree", "--json")
    assert told.document["id"] == first
    (group_,) = told.document["children"]
    assert (group_["group"], [each["id"] for each in group_["children"]]) == (True, [one, two])


async def test_a_failure_is_shown_where_it_was(shell: Shell, app: AsyncQ) -> None:
    add, fail = app.tasks["shop.add"], app.tasks["shop.fail"]
    sent: Any = await chain(add.s(1, 2), fail.si("spoilt milk"), add.s(1)).send()
    assert isinstance(await sent.get(20, propagate=False), ValueError)
    shown = await shell.run("result", "shop:queue", sent.parent.task_id, "--tree")
    assert shown.code == 1
    assert shown.out.splitlines() == [
        f"SUCCESS shop.add {sent.parent.parent.task_id}",
        f"└── FAILURE shop.fail {sent.parent.task_id} ValueError: spoilt milk <",
    ]


async def test_of_what_nobody_knows_there_is_a_tree_of_one(shell: Shell, app: AsyncQ) -> None:
    shown = await shell.run("result", "shop:queue", "unknown", "--tree")
    assert (shown.code, shown.out) == (4, "PENDING unknown <\n")
    assert app.tasks
