"""What a worker asks of a result backend that bills each request, while there is nothing to do, or a long task runs."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec import structs

from asyncq.driver import BackendCapabilities, DriverConfig
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from virtual import virtual, virtual_environment
from worker.bench import Bench

#: Requests a minute.
BUDGET = 6


class Counted:
    """Counts the calls of a part of a backend."""

    def __init__(self, part: object, calls: Counter[str]) -> None:
        self._part = part
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not inspect.iscoroutinefunction(found):
            return found

        def counted(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            self._calls[name] += 1
            return found(*args, **kwargs)

        return counted


class BilledBackend(MemoryBackend):
    capabilities = BackendCapabilities(shared=True, push=False, billed=True)

    def __init__(self, config: DriverConfig, calls: Counter[str]) -> None:
        super().__init__(config)
        self.coordination: Any = Counted(self.coordination, calls)
        self.chords: Any = Counted(self.chords, calls)


class SilentBroker(MemoryBroker):
    """It carries nothing to all workers at once, as SQS."""

    capabilities = structs.replace(MemoryBroker.capabilities, fanout=False)


@pytest.mark.parametrize("running", [0, 1])
@virtual
async def test_a_worker_asks_six_times_a_minute_at_most(running: int) -> None:
    """All that `asyncq status` and `asyncq control` need, revocations and chords that nobody has ended included."""
    bench, calls = Bench(virtual_environment()), Counter[str]()
    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    bench.task(hold)
    backend = BilledBackend(bench.config, calls)
    async with bench.worker(broker=SilentBroker(bench.config), backend=backend) as worker:
        for _ in range(running):
            await bench.send("hold")
        await asyncio.sleep(60)
        assert worker.stats.received == running
        calls.clear()
        await asyncio.sleep(3600)
        print(calls)
        assert 0 < calls.total() <= 60 * BUDGET
        gate.set()
