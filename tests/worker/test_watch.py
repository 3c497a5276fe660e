"""An event loop that is late or blocked: counted, told of with the culprit, and, where one asks for it, the end."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from asyncq._context import Context
from asyncq._middleware import Middleware, RunOn
from asyncq.worker import Worker
from worker.bench import Bench, reaches
from worker.post import Post


def block(seconds: float) -> None:
    """Stands for code that computes, or waits, without giving the loop a turn."""
    time.sleep(seconds)


def block_until(condition: Callable[[], bool]) -> None:
    """Block the loop until another thread has done something, ten seconds at most: it may be slow to get a turn."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        block(0.05)


def blocked(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "has been blocked" in record.message]


async def test_the_loops_lag_is_counted(bench: Bench) -> None:
    async def blocks() -> None:
        block(0.6)

    bench.task(blocks)
    async with bench.worker(watch=True) as worker:
        await asyncio.sleep(0.3)
        before = worker.stats.lags
        await bench.final(await bench.send("blocks"))
        await reaches(lambda: worker.stats.lags > before)
        assert 0.1 <= worker.stats.largest_lag < 5


async def test_who_blocks_the_loop_is_told_with_the_stack(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    began = 0.0

    async def computes() -> None:
        nonlocal began
        began = time.time()
        block_until(lambda: bool(blocked(caplog)))

    bench.task(computes)
    async with bench.worker(watch=True):
        task_id = await bench.send("computes")
        await bench.final(task_id)
        await reaches(lambda: any("turns again" in record.message for record in caplog.records))
    [record] = [each for each in blocked(caplog) if f"by computes[{task_id}]" in each.message]
    assert "block_until(" in record.message
    assert vars(record)["task_id"] == task_id
    # While it stood, and not when it was over; the loop's last turn was up to a beat before it began.
    assert began + 0.7 < record.created < began + 9


async def test_code_that_no_task_of_a_queue_runs_is_told_by_its_stack(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def innocent() -> None:
        await asyncio.Event().wait()

    def in_a_callback() -> None:
        block_until(lambda: bool(blocked(caplog)))

    bench.task(innocent)
    async with bench.worker(watch=True, shutdown_timeout=0.0) as worker:
        await bench.send("innocent")
        await reaches(lambda: worker.stats.received == 1)
        asyncio.get_running_loop().call_soon(in_a_callback)
        await asyncio.sleep(0.01)
        await reaches(lambda: any("in_a_callback" in each.message for each in blocked(caplog)))
    [record] = [each for each in blocked(caplog) if "in_a_callback" in each.message]
    assert "no task of a queue" in record.message
    assert "innocent" not in record.message


async def test_each_block_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def computes() -> None:
        before = len(blocked(caplog))
        block_until(lambda: len(blocked(caplog)) > before)
        block(1.2)

    bench.task(computes)
    async with bench.worker(watch=True, concurrency=1):
        for _ in range(2):
            await bench.final(await bench.send("computes"))
            await asyncio.sleep(0.3)
    assert len([record for record in blocked(caplog) if "by computes" in record.message]) == 2


class Blocking(Middleware):
    """Stands around the task's code, and is not driven step by step. Blocks until it was seen."""

    def __init__(self, seen: list[bool]) -> None:
        self.seen = seen

    async def run(self, ctx: Context, forward: RunOn) -> Any:
        block_until(lambda: bool(self.seen))
        return await forward()


async def test_the_supervisor_learns_of_a_culprit_that_nobody_drives(bench: Bench) -> None:
    async def parent() -> None: ...

    bench.task(parent)
    seen: list[bool] = []
    worker = bench.worker(middleware=[Blocking(seen)])
    with Post(worker) as post:

        def look() -> None:  # in a thread, as a supervisor would
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not seen:
                header, flights = post.header, post.flights
                if header.on_loop:
                    seen.append([flight.task for flight in flights if flight.slot == header.on_loop] == ["parent"])
                time.sleep(0.05)

        async with worker:
            looking = asyncio.create_task(asyncio.to_thread(look))
            await bench.final(await bench.send("parent"))
            await looking
            await asyncio.sleep(0.3)
            assert post.header.on_loop == 0
    assert seen == [True]


async def test_the_supervisor_is_heard_though_the_watch_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failures() -> int:
        return sum("has failed, and goes on" in record.message for record in caplog.records)

    async def blocks() -> None:
        block_until(lambda: failures() > 0)

    def culprit(*_: object) -> None:
        raise ZeroDivisionError

    bench.task(blocks)
    monkeypatch.setattr(Worker, "_culprit", culprit)
    worker = bench.worker()
    with Post(worker) as post:
        async with asyncio.timeout(20):
            await worker.__aenter__()
            await bench.final(await bench.send("blocks"))
            assert failures() == 1
            post.say(b"T")
            await worker.wait()


_EMBEDDED = """
import asyncio, time
from asyncq import AsyncQ

queue = AsyncQ("shop", broker="memory://", stall_timeout={stall}, lease=30)

@queue.task(name="culprit")
async def culprit():
    time.sleep({seconds})
    return "done"

async def main():
    async with queue, queue.worker(watchdog=True):
        print(await (await culprit.send()).get(timeout=20))

asyncio.run(main())
"""


def embedded(*, stall: float, seconds: float) -> subprocess.CompletedProcess[str]:
    code = _EMBEDDED.format(stall=stall, seconds=seconds)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


def test_a_watchdog_ends_a_process_whose_loop_is_blocked() -> None:
    began = time.monotonic()
    done = embedded(stall=1.0, seconds=25)
    assert done.returncode == 1
    assert "in culprit" in done.stderr
    assert time.monotonic() - began < 15


def test_a_watchdog_lets_a_loop_live_that_turns_in_time() -> None:
    done = embedded(stall=5.0, seconds=0.7)
    assert (done.returncode, done.stdout) == (0, "done\n")
