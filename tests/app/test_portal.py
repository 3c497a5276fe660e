"""Sending and waiting from sync code."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.kit import GatedBroker
from asyncq import AsyncQ, Context, ResultTimeout
from asyncq._context import current_context
from asyncq.driver import DriverConfig
from asyncq.protocol import TaskMessage


@pytest.fixture
def queue() -> Iterator[AsyncQ]:
    queue = AsyncQ("shop", broker="memory://")
    yield queue
    queue._portal.close()


def test_sending_and_waiting_without_a_loop(queue: AsyncQ) -> None:
    @queue.task
    async def add(a: int, b: int) -> int:
        return a + b

    async def work() -> None:
        async with queue.worker(burst=True) as worker:
            await worker.wait()

    result = add.send_sync(1, 2)
    others = [
        add.options(priority=3).send_sync(2, 3),
        add.s(3, 4).send_sync(),
        queue.send_task_sync(add.name, [4, 5]),
    ]
    with pytest.raises(ResultTimeout):
        result.get_sync(timeout=0.01)
    queue._portal.call(work, instead="")
    assert result.get_sync(timeout=10) == 3
    assert [other.get_sync(10, propagate=False) for other in others] == [5, 7, 9]


async def test_in_a_loops_own_thread_it_says_what_to_do(queue: AsyncQ) -> None:
    @queue.task
    async def add() -> None: ...

    with pytest.raises(RuntimeError, match=r"use await ….send\(…\)"):
        add.send_sync()
    with pytest.raises(RuntimeError, match=r"use await result.get\(\)"):
        queue.result("a").get_sync()


def test_many_threads_share_one_portal() -> None:
    brokers: list[GatedBroker] = []

    def make(config: DriverConfig) -> GatedBroker:
        brokers.append(GatedBroker(config))
        return brokers[-1]

    queue = AsyncQ("shop", broker=make)
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: queue.send_task_sync("shop.add", [n]), range(100)))
    assert len({result.task_id for result in results}) == 100
    assert len(brokers) == 1
    assert threading.active_count() == before + 1
    queue._portal.close()
    assert threading.active_count() == before
    assert brokers[0].closed == 1


def test_after_closing_it_starts_anew(queue: AsyncQ) -> None:
    queue.send_task_sync("shop.add")
    queue._portal.close()
    queue._portal.close()
    queue.send_task_sync("shop.add")


def test_a_task_in_a_thread_is_the_parent_of_what_it_sends(queue: AsyncQ) -> None:
    parent = Context(TaskMessage(task="shop.parent", id="p"), attempt=None)
    token = current_context.set(parent)
    try:
        result = queue.send_task_sync("shop.add")
    finally:
        current_context.reset(token)
    assert parent.children == [[[result.task_id, None], None]]


def test_a_def_task_sends_from_its_thread(queue: AsyncQ) -> None:
    @queue.task
    def child() -> str:
        return "child"

    @queue.task
    def parent() -> str:
        return child.send_sync().task_id

    async def work() -> str:
        async with queue.worker():
            result = await parent.send()
            return await queue.result(await result.get(timeout=10)).get(timeout=10)

    import asyncio

    async def main() -> str:
        async with queue:
            return await work()

    assert asyncio.run(main()) == "child"


SCRIPT = """
from asyncq import AsyncQ
queue = AsyncQ("shop", broker="sqlite:///{folder}/x.sqlite")
result = queue.send_task_sync("shop.add", [1, 2])
print("sent", result.task_id)
"""


def test_a_script_ends_by_itself_and_in_silence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(folder=tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("sent ")
    assert done.stderr == ""


FORK = """
import os, sys
from asyncq import AsyncQ
queue = AsyncQ("shop", broker="sqlite:///{folder}/x.sqlite")
queue.send_task_sync("shop.parent")
pid = os.fork()
if pid == 0:
    queue.config_from_object({{}})  # refused where connections are in use
    queue.send_task_sync("shop.child")
    os._exit(0)
_, status = os.waitpid(pid, 0)
queue.send_task_sync("shop.parent")
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is what this is about")
def test_a_forked_child_has_a_portal_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(folder=tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == "0"
