"""How much a worker takes, and how it goes on when a server is away."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest

from asyncq._context import Context
from asyncq.driver import Delivery, Settlement, StoredResult
from asyncq.errors import BackendConnectionError, BrokerConnectionError, BrokerError
from asyncq.worker._flow import LEAST_CONCLUDING, Flow, Prefetch
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from worker.bench import Bench, reaches


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


async def test_no_more_run_at_once_than_asked_for(bench: Bench) -> None:
    running, most = 0, 0

    async def counts() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    bench.task(counts)
    for _ in range(100):
        await bench.send("counts")
    async with asyncio.timeout(10):
        await bench.worker(concurrency=7, burst=True).run()
    assert most == 7


async def test_no_more_threads_run_at_once_than_asked_for(bench: Bench) -> None:
    import threading

    lock, running, most = threading.Lock(), 0, 0
    two = threading.Barrier(2)

    def counts() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        two.wait(timeout=10)
        with lock:
            running -= 1

    bench.task(counts)
    for _ in range(8):
        await bench.send("counts")
    async with asyncio.timeout(10):
        await bench.worker(concurrency=8, threads=2, burst=True).run()
    assert most == 2


def test_prefetch_is_what_a_second_can_start_and_nothing_for_long_tasks() -> None:
    clock = Hands()
    prefetch = Prefetch(100, clock)
    assert prefetch.allowance() == 0  # nothing has ended, so nothing is known
    for _ in range(60):
        prefetch.note(0.01)
    clock.now += 2
    assert prefetch.allowance() == 30
    for _ in range(10_000):
        prefetch.note(0.01)
    clock.now += 1
    assert prefetch.allowance() == 100
    prefetch.note(5.0)
    clock.now += 1
    assert prefetch.allowance() == 0
    clock.now += 10
    assert prefetch.allowance() == 0  # nothing has ended since, so nothing new is known


def test_prefetch_is_nothing_when_no_slot_has_come_free_for_a_second() -> None:
    clock = Hands()
    prefetch = Prefetch(10, clock)
    for _ in range(10):
        prefetch.note(0.01)
    clock.now += 0.5
    assert prefetch.allowance() == 10
    clock.now += 0.9
    assert prefetch.allowance() == 10
    clock.now += 0.1
    assert prefetch.allowance() == 0


async def test_what_waits_behind_long_tasks_goes_to_a_worker_with_a_free_slot(bench: Bench) -> None:
    release = asyncio.Event()

    async def quick() -> None:
        pass

    async def holds() -> None:
        await release.wait()

    bench.task(quick)
    bench.task(holds)
    async with bench.worker(concurrency=2) as busy:
        for _ in range(4):
            await bench.final(await bench.send("quick"))  # nothing is prefetched before a rate is known
        held = [await bench.send("holds") for _ in range(2)]
        behind = [await bench.send("quick") for _ in range(2)]
        await bench.until(lambda depth: not depth.ready)
        async with bench.worker(concurrency=2):
            for task_id in behind:
                await bench.final(task_id)
        assert busy.stats.handed_back == 2
        release.set()
        for task_id in held:
            await bench.final(task_id)


def test_fast_tasks_are_known_as_soon_as_all_slots_were_used_once() -> None:
    clock = Hands()
    prefetch = Prefetch(100, clock)
    for _ in range(99):
        prefetch.note(0.001)
    clock.now += 0.01
    assert prefetch.allowance() == 0
    prefetch.note(0.001)
    assert prefetch.allowance() == 100


def test_there_is_no_room_while_outcomes_pile_up() -> None:
    flow = Flow(10, Hands())
    assert flow.room == 10
    flow.concluding = 2 * LEAST_CONCLUDING - 1
    assert flow.room == 10
    flow.concluding += 1
    assert flow.room == 0


def test_free_slots_are_filled_at_once_and_the_stock_behind_them_by_halves() -> None:
    flow = Flow(10, Hands())
    for _ in range(10):
        flow.prefetch.note(0.001)
    assert flow.room == 20
    flow.running, flow.waiting = 9, 0
    assert flow.room == 11
    flow.running, flow.waiting = 10, 6
    assert flow.room == 0
    flow.waiting = 5
    assert flow.room == 5


async def test_a_context_goes_with_its_run_and_waits_for_no_garbage_collector(bench: Bench) -> None:
    async def sees(ctx: Context) -> str:
        return ctx.task_id

    bench.task(sees)
    for _ in range(5):
        await bench.send("sees")
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(10):
            await bench.worker(burst=True).run()
        left = [thing for thing in gc.get_objects() if isinstance(thing, Context)]
    finally:
        gc.enable()
    assert left == []


class AwayBackend(MemoryBackend):
    """Refuses to store while `away`."""

    away = True

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if self.away:
            raise BackendConnectionError("away")
        return await super().store(results)


async def test_nothing_is_acknowledged_unstored_and_intake_stops(bench: Bench) -> None:
    async def one() -> int:
        return 1

    bench.task(one)
    for _ in range(300):
        await bench.send("one")
    backend = AwayBackend(bench.config)
    async with bench.worker(concurrency=10, backend=backend) as worker:
        await reaches(lambda: worker.stats.received >= 2 * LEAST_CONCLUDING)
        for _ in range(50):
            await asyncio.sleep(0.001)
        depth = await bench.depth()
        assert worker.stats.succeeded == 0
        assert worker.stats.received <= 2 * LEAST_CONCLUDING + 2 * 10
        assert depth.in_flight == worker.stats.received
        backend.away = False
        await reaches(lambda: worker.stats.succeeded == 300)


async def test_results_that_cannot_be_stored_before_the_end_are_handed_back(bench: Bench) -> None:

    async def one() -> int:
        return 1

    bench.task(one)
    await bench.send("one")
    async with bench.worker(backend=AwayBackend(bench.config), shutdown_timeout=0.1, kill_grace=0.2) as worker:
        await reaches(lambda: worker.stats.received == 1)
    depth = await bench.depth()
    assert (depth.ready, depth.in_flight) == (1, 0)


async def test_it_receives_again_after_the_broker_was_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(bench.config)
    consume = broker.consume
    failures = 3

    def flaky(*args: object, **kwargs: object) -> object:
        consumer = consume(*args, **kwargs)  # type: ignore[arg-type] - passed through
        receive = consumer.receive

        async def sometimes(limit: int) -> list[Delivery]:
            nonlocal failures
            if failures:
                failures -= 1
                raise BrokerConnectionError("away")
            return await receive(limit)

        monkeypatch.setattr(consumer, "receive", sometimes)
        return consumer

    monkeypatch.setattr(broker, "consume", flaky)

    async def one() -> int:
        return 1

    bench.task(one)
    async with bench.worker(broker=broker):
        assert (await bench.final(await bench.send("one"))).result == 1
    assert failures == 0


async def test_the_outcome_of_a_lost_lease_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker slept longer than its lease: somebody else has run the task, and their result stays."""
    running, release = asyncio.Event(), asyncio.Event()

    async def sleeps() -> str:
        running.set()
        await release.wait()
        return "stale"

    bench.task(sleeps)
    broker = MemoryBroker(bench.config)
    async with bench.worker(broker=broker, lease=60.0) as worker:
        keeper = worker._task  # the worker runs
        assert keeper is not None
        monkeypatch.setattr("asyncq.worker._leases.LeaseKeeper.is_confirmed", lambda *_: False)
        await bench.send("sleeps")
        await running.wait()
        assert await bench.broker.release(worker.node) == 1  # what a rescue does
        release.set()
        await reaches(lambda: worker.stats.lost == 1)
        worker.stop(now=True)


async def test_a_settlement_that_is_refused_for_good_takes_no_other_with_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker(bench.config)
    consume = broker.consume
    refused: list[str] = []

    def picky(*args: Any, **kwargs: Any) -> object:
        consumer = consume(*args, **kwargs)
        settle = consumer.settle

        async def without_the_first(settlements: Sequence[Settlement]) -> list[Delivery]:
            if not refused:
                refused.append(settlements[0].delivery.tag)
            if any(each.delivery.tag in refused for each in settlements):
                raise BrokerError("no such key")
            return await settle(settlements)

        monkeypatch.setattr(consumer, "settle", without_the_first)
        return consumer

    monkeypatch.setattr(broker, "consume", picky)

    async def one() -> int:
        return 1

    bench.task(one)
    for _ in range(5):
        await bench.send("one")
    async with bench.worker(broker=broker) as worker:
        await reaches(lambda: worker.stats.succeeded == 5)
        depth = await bench.until(lambda depth: depth.in_flight == 1)
    assert depth.ready == 0
