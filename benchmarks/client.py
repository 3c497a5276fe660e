"""One client, in a process of its own: does one thing with one library, and prints how long it took.

python -m benchmarks.client MODULE:SENDER singles|batch|fill|round-trips COUNT
python -m benchmarks.client MODULE:SENDER workflows    (sends what comes in, a line of JSON each)
"""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .apps.sender import CanvasSender, Sender
from .workflows import Workflow

#: Calls before the clock starts: connections, caches, lazy imports.
WARM_UP = 100


async def _timed(work: Callable[[int], Awaitable[None]], count: int) -> dict[str, object]:
    await work(WARM_UP)
    wall, cpu = time.perf_counter(), time.process_time()
    await work(count)
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


async def _fill(sender: Sender, count: int) -> dict[str, object]:
    """What a worker is to drain: a tenth to warm up with, a mark, the calls, a mark."""
    await sender.batch(count // 10)
    await sender.mark("begin")
    await sender.batch(count)
    await sender.mark("end")
    return {}


async def _round_trips(sender: Sender, count: int) -> dict[str, object]:
    times: list[float] = []
    for number in range(WARM_UP + count):
        started = time.perf_counter()
        await sender.round_trip()
        if number >= WARM_UP:
            times.append(time.perf_counter() - started)
    return {"times": times}


async def _workflows(sender: CanvasSender) -> dict[str, object]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        workflow = Workflow(**json.loads(line))
        begun, cpu = time.perf_counter(), time.process_time()
        await workflow.send(sender)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"begun": begun, "ended": ended, "cpu": cpu, "peak": peak}), flush=True)
    return {}


async def _main(make_sender: str, what: str, count: int) -> dict[str, object]:
    module, _, name = make_sender.partition(":")
    # Any: what a contender's module has is what it says.
    sender: Any = await getattr(importlib.import_module(module), name)()
    try:
        match what:
            case "singles":
                return await _timed(sender.singles, count)
            case "batch":
                return await _timed(sender.batch, count)
            case "fill":
                return await _fill(sender, count)
            case "round-trips":
                return await _round_trips(sender, count)
            case "workflows":
                return await _workflows(sender)
            case _:
                raise SystemExit(f"no such thing to do: {what}")
    finally:
        await sender.close()


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        print(json.dumps(runner.run(_main(sys.argv[1], sys.argv[2], int((*sys.argv, 0)[3])))))
