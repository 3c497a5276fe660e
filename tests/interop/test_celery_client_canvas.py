"""A real Celery client sends canvases, an asyncq worker runs them: they come to what a Celery worker makes of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ
from asyncq.protocol import TaskMessage
from interop.celery_canvases import SHAPES
from interop.celery_client import CeleryClient
from waiting import PATIENCE

pytestmark = pytest.mark.interop


@pytest.fixture
async def told(queue: AsyncQ) -> AsyncIterator[asyncio.Queue[str]]:
    """What errbacks say, while a worker runs."""
    told: asyncio.Queue[str] = asyncio.Queue()

    @queue.task(name="add")
    async def add(x: int, y: int) -> int:
        return x + y

    @queue.task(name="mul")
    async def mul(x: int, y: int) -> int:
        return x * y

    @queue.task(name="total")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(name="echo")
    async def echo(*args: Any) -> list[Any]:
        return list(args)

    @queue.task(name="fail", throws=(ValueError,))
    async def fail(*_: Any) -> None:
        raise ValueError("boom", 1)

    @queue.task(name="told_by_id")
    async def told_by_id(task_id: str) -> None:
        await told.put(task_id)

    @queue.task(name="told_at_once")
    async def told_at_once(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        await told.put(f"{request.id} {exc!r}")

    async with queue.worker():
        yield told


async def run_client(url: str) -> dict[str, Any]:
    """What each canvas came to. Any: of whatever type."""
    tests = Path(__file__).parents[1]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interop.celery_canvases", url, cwd=tests, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(2 * PATIENCE):
            printed, _ = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    return json.loads(printed)


@pytest.mark.usefixtures("told")
async def test_each_canvas_comes_to_what_it_comes_to_with_celery(url: str) -> None:
    assert await run_client(url) == {name: outcome for name, (_, outcome) in SHAPES.items()}


@pytest.mark.parametrize("errback", ["told_by_id", "told_at_once"])
async def test_errbacks_are_told_once(celery: CeleryClient, told: asyncio.Queue[str], errback: str) -> None:
    document = {"task": errback, "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    failed = await celery.send("fail", link_error=[document])
    async with asyncio.timeout(PATIENCE):
        assert (await told.get()).startswith(failed)
    assert told.empty()
