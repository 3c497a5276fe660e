"""How a worker ends: what runs, what waits and what doesn't want to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import anyio
import pytest

from asyncq._context import Context
from asyncq._resources import Lifespan
from asyncq.driver import Delivery
from asyncq.errors import ConfigurationError
from asyncq_brokers.memory import MemoryBroker
from worker.bench import Bench, reaches


async def test_a_running_task_ends_and_is_acknowledged(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def waits() -> str:
        running.set()
        await release.wait()
        return "ended"

    bench.task(waits)
    async with bench.worker() as worker:
        task_id = await bench.send("waits")
        await running.wait()
        worker.stop()
        release.set()
    record = await bench.record(task_id)
    assert record is not None
    assert record.result == "ended"
    depth = await bench.depth()
    assert (depth.ready, depth.in_flight) == (0, 0)


async def test_a_stop_does_not_wait_for_what_a_lifespan_waits_for(bench: Bench) -> None:
    waiting, closed = asyncio.Event(), asyncio.Event()

    async def pool() -> AsyncGenerator[None]:
        async with anyio.create_task_group():  # which must not get between the scopes of the worker
            yield
            await asyncio.sleep(0)
            closed.set()

    async def database() -> AsyncGenerator[None]:
        waiting.set()
        await asyncio.Event().wait()
        yield

    worker = bench.worker(lifespans=[Lifespan(pool), Lifespan(database)])
    starting = asyncio.create_task(worker.run())
    await waiting.wait()
    worker.stop()
    async with asyncio.timeout(10):
        await starting
    assert closed.is_set()


async def test_a_lifespan_that_times_out_fails_the_start(bench: Bench) -> None:
    async def database() -> AsyncGenerator[None]:
        raise TimeoutError("the database is away")
        yield

    with pytest.raises(TimeoutError, match="the database"):
        await bench.worker(lifespans=[Lifespan(database)]).run()


async def test_nothing_starts_after_the_stop_and_what_waited_is_given_back_in_order(bench: Bench) -> None:
    started: list[int] = []
    release = asyncio.Event()

    async def waits(ctx: Context, number: int) -> None:
        started.append(number)
        await release.wait()

    async def quick() -> None: ...

    bench.task(waits)
    bench.task(quick)
    worker = bench.worker(concurrency=1)
    async with worker:
        await bench.send("quick")  # nothing is prefetched before a rate is known
        await reaches(lambda: worker.stats.succeeded == 1)
        for number in range(5):
            await bench.send("waits", number)
        await reaches(lambda: worker.stats.received >= 3)
        worker.stop()
        await bench.until(lambda depth: depth.ready == 4)
        release.set()
    assert started == [0]
    ready = await bench.ready()
    assert [message.headers["id"] for message in ready] == ["id-3", "id-4", "id-5", "id-6"]
    assert worker.stats.succeeded == 2


async def test_what_does_not_end_in_time_is_cancelled_and_handed_back_without_an_attempt(bench: Bench) -> None:
    cleaned: list[str] = []
    running = asyncio.Event()

    async def long() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    bench.task(long)
    async with bench.worker(shutdown_timeout=0.05):
        task_id = await bench.send("long")
        await running.wait()
    assert cleaned == ["up"]
    assert await bench.record(task_id) is None
    [message] = await bench.ready()
    assert message.headers["retries"] == 0


async def test_the_next_worker_is_told_that_it_was_begun(bench: Bench) -> None:
    seen: list[bool] = []
    running = asyncio.Event()

    async def long(ctx: Context) -> None:
        seen.append(ctx.redelivered)
        running.set()
        if not ctx.redelivered:
            await asyncio.Event().wait()

    bench.task(long)
    async with bench.worker(shutdown_timeout=0.01):
        task_id = await bench.send("long")
        await running.wait()
    async with bench.worker():
        assert (await bench.final(task_id)).status == "SUCCESS"
    assert seen == [False, True]


async def test_a_second_stop_does_not_wait(bench: Bench) -> None:
    running = asyncio.Event()

    async def long() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(long)
    async with asyncio.timeout(5), bench.worker(shutdown_timeout=3600) as worker:
        await bench.send("long")
        await running.wait()
        worker.stop()
        await asyncio.sleep(0)
        worker.stop(now=True)
    assert (await bench.depth()).ready == 1


async def test_an_early_acknowledged_task_that_is_cut_off_fails(bench: Bench) -> None:
    running = asyncio.Event()

    async def long() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(long, acks_late=False)
    async with bench.worker(shutdown_timeout=0.01):
        task_id = await bench.send("long")
        await running.wait()
    record = await bench.record(task_id)
    assert record is not None
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "WorkerLostError")


async def test_a_task_that_swallows_its_cancellation_is_handed_back_all_the_same(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def swallows() -> None:
        running.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    bench.task(swallows)
    async with bench.worker(shutdown_timeout=0.01, kill_grace=0.1):
        task_id = await bench.send("swallows")
        await running.wait()
    assert (await bench.depth()).ready == 1
    release.set()
    await asyncio.sleep(0)  # let it end: what it does now must not be stored
    await asyncio.sleep(0)
    assert await bench.record(task_id) is None


async def test_a_thread_that_does_not_end_is_handed_back(bench: Bench) -> None:
    running, release = threading.Event(), threading.Event()

    def blocks() -> None:
        running.set()
        release.wait()

    bench.task(blocks)
    try:
        async with bench.worker(shutdown_timeout=0.01, kill_grace=0.1):
            await bench.send("blocks")
            await reaches(running.is_set)
        assert (await bench.depth()).ready == 1
    finally:
        release.set()


async def test_it_may_be_entered_and_left_in_different_tasks(bench: Bench) -> None:
    async def one() -> int:
        return 1

    bench.task(one)
    worker = bench.worker()
    await asyncio.create_task(worker.__aenter__())
    record = await bench.final(await bench.send("one"))
    await asyncio.create_task(worker.__aexit__(None, None, None))
    assert record.result == 1


async def test_burst_ends_when_nothing_is_left(bench: Bench) -> None:
    async def one(number: int) -> int:
        return number

    bench.task(one)
    ids = [await bench.send("one", number) for number in range(250)]
    worker = bench.worker(burst=True, concurrency=10)
    async with asyncio.timeout(10):
        await worker.run()
    assert worker.stats.succeeded == 250
    records = [await bench.record(task_id) for task_id in ids]
    assert [record.result for record in records if record is not None] == list(range(250))


async def test_burst_waits_for_a_batch_that_is_on_its_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer ready in the queue, and not yet held by the worker."""
    broker = MemoryBroker(bench.config)
    consume = broker.consume

    def far_away(*args: object, **kwargs: object) -> object:
        consumer = consume(*args, **kwargs)  # type: ignore[arg-type] - passed through
        receive = consumer.receive

        async def slowly(limit: int) -> list[Delivery]:
            deliveries = await receive(limit)
            await asyncio.sleep(0.02)
            return deliveries

        monkeypatch.setattr(consumer, "receive", slowly)
        return consumer

    async def one() -> int:
        return 1

    monkeypatch.setattr(broker, "consume", far_away)
    bench.task(one)
    await bench.send("one")
    worker = bench.worker(broker=broker, burst=True)
    async with asyncio.timeout(10):
        await worker.run()
    assert worker.stats.succeeded == 1


async def test_a_worker_that_dies_says_what_of_and_leaves_the_block_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker(bench.config)
    consume = broker.consume

    def breaks(*args: object, **kwargs: object) -> object:
        consumer = consume(*args, **kwargs)  # type: ignore[arg-type] - passed through

        async def receive(limit: int) -> list[Delivery]:
            raise ZeroDivisionError("a fault of the driver")

        monkeypatch.setattr(consumer, "receive", receive)
        return consumer

    monkeypatch.setattr(broker, "consume", breaks)
    reached_the_end = False
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - leaving the block is what raises
        async with bench.worker(broker=broker) as worker:
            with pytest.raises(ExceptionGroup):
                await worker.wait()
            reached_the_end = True
    assert reached_the_end
    assert caught.group_contains(ZeroDivisionError)


async def test_what_stops_the_start_is_raised_at_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(bench.config)

    async def refuses() -> None:
        raise ConfigurationError("no such database")

    monkeypatch.setattr(broker, "open", refuses)
    with pytest.raises(ConfigurationError, match="no such database"):
        async with bench.worker(broker=broker):
            pass


async def test_its_asyncio_tasks_end_with_it(bench: Bench) -> None:
    async def one() -> int:
        return 1

    bench.task(one)
    before = asyncio.all_tasks()
    async with bench.worker():
        await bench.final(await bench.send("one"))
    assert asyncio.all_tasks() == before
