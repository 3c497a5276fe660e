"""What no message, no task and no server may do to a worker, or to its other tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from asyncq._context import Context
from asyncq._coordination import coordination_of
from asyncq.driver import Fact, Publication, Queue, QueueDepth, StoredResult
from asyncq.errors import BackendError, BrokerConnectionError, BrokerError, PublishError, Snooze
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from worker.bench import Bench, reaches


async def one() -> int:
    return 1


async def test_a_busy_worker_still_hears_that_a_running_task_is_terminated(bench: Bench) -> None:
    """The receiver reads the news, too; whoever reads it, what runs must hear of it."""

    async def long() -> None:
        await asyncio.sleep(3600)

    bench.task(long)
    bench.task(one)
    busy = True

    async def send_for_ever() -> None:
        while busy:
            await bench.send("one")
            await asyncio.sleep(0.001)

    async with bench.worker() as worker:
        task_id = await bench.send("long")
        await reaches(lambda: worker._flow.running >= 1)
        sender = asyncio.create_task(send_for_ever())
        result = coordination_of(bench.backend, bench.broker)
        assert result is not None
        from asyncq._revoking import Revocation, keep_revocation

        await keep_revocation(result, Revocation(task_id, terminate=True), new_id=bench.environment.new_id)
        assert (await bench.final(task_id)).status == "REVOKED"
        busy = False
        await sender


async def test_a_revocation_that_cannot_be_read_is_passed_over(bench: Bench) -> None:
    coordination = coordination_of(bench.backend, bench.broker)
    assert coordination is not None
    await coordination.put([Fact(key="revoked.odd", value=b'{"task": 1}', ttl=60)])
    await coordination.incr("revocations", ttl=60)
    bench.task(one)
    async with bench.worker():
        assert (await bench.final(await bench.send("one"))).result == 1


async def test_a_key_function_that_raises_costs_only_the_limit(bench: Bench) -> None:
    async def limited(user: str) -> str:
        return user

    def of_user(user: str) -> str:
        return user.lower()

    bench.task(limited, rate_limit="1/h", limit_key=of_user)
    async with bench.worker():
        bad = await bench.final(await bench.send("limited"))
        good = await bench.final(await bench.send("limited", "a"))
    assert bad.status == "FAILURE"
    assert good.result == "a"


async def test_arguments_that_a_record_cannot_hold_do_not_cost_the_result(bench: Bench) -> None:
    async def large(number: int) -> int:
        return number % 7

    bench.task(large)
    async with bench.worker(result_extended=True, result_serializer="msgpack", accept=("json", "msgpack")) as worker:
        await bench.send("large", 10**30)
        await reaches(lambda: worker.stats.succeeded == 1)


class Refusing(MemoryBackend):
    """Refuses every record that says SUCCESS, for good."""

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if any(result.status == "SUCCESS" for result in results):
            raise BackendError("no such thing as success")
        return await super().store(results)


async def test_a_result_that_the_backend_refuses_is_a_failure_that_says_so(bench: Bench) -> None:
    bench.task(one)
    async with bench.worker(backend=Refusing(bench.config)):
        record = await bench.final(await bench.send("one"))
    assert record.status == "FAILURE"
    assert record.result["exc_message"] == ["no such thing as success"]


class Faulty(MemoryBackend):
    """Raises what no driver may, for one task's success or whenever it comes up."""

    def __init__(self, bench: Bench, *, always: bool) -> None:
        super().__init__(bench.config)
        self.odd, self._always = "", always

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if any(each.task_id == self.odd and (self._always or each.status == "SUCCESS") for each in results):
            "\ud800".encode()
        return await super().store(results)


@pytest.mark.parametrize("always", [False, True])
async def test_a_fault_of_a_drivers_costs_the_one_task_that_it_is_about(bench: Bench, always: bool) -> None:
    bench.task(one)
    backend = Faulty(bench, always=always)
    before = [await bench.send("one") for _ in range(3)]
    backend.odd = await bench.send("one")
    after = [await bench.send("one") for _ in range(3)]
    async with bench.worker(backend=backend):
        for task_id in (*before, *after):
            assert (await bench.final(task_id)).result == 1
        await bench.until(lambda depth: depth.dead == 1 and depth.ready == depth.in_flight == 0)
        assert (await bench.final(await bench.send("one"))).result == 1
    record = await bench.record(backend.odd)
    assert (None if record is None else record.result["exc_type"]) == (None if always else "UnicodeEncodeError")


async def test_a_stranger_that_cannot_be_put_off_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(bench.config)

    async def refuse(publications: Sequence[Publication]) -> None:
        raise PublishError({index: BrokerError("too large") for index in range(len(publications))})

    monkeypatch.setattr(broker, "publish", refuse)
    async with bench.worker(broker=broker):
        await bench.send("unheard.of")
        await bench.until(lambda depth: depth.dead == 1 and depth.in_flight == 0)


async def test_a_task_that_was_given_up_cannot_bury_its_failure(bench: Bench) -> None:
    release, spoke = asyncio.Event(), asyncio.Event()

    async def swallows(ctx: Context) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        await ctx.progress("still here")
        spoke.set()

    bench.task(swallows, time_limit=0.01)
    async with bench.worker(kill_grace=0.02):
        task_id = await bench.send("swallows")
        assert (await bench.final(task_id)).status == "FAILURE"
        release.set()
        await spoke.wait()
        record = await bench.record(task_id)
    assert record is not None
    assert record.status == "FAILURE"


async def test_a_stop_is_no_failure_of_a_task_that_turns_its_cancellation_into_an_error(bench: Bench) -> None:
    running = asyncio.Event()

    async def converts() -> None:
        running.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise RuntimeError("the driver was cut off") from None

    bench.task(converts)
    async with bench.worker(shutdown_timeout=0.01):
        task_id = await bench.send("converts")
        await running.wait()
    assert await bench.record(task_id) is None
    assert (await bench.depth()).ready == 1


async def test_what_waits_for_a_thread_does_not_start_after_the_stop(bench: Bench) -> None:
    release, started = threading.Event(), []

    def blocks(number: int) -> None:
        started.append(number)
        release.wait(10)

    bench.task(blocks)
    async with bench.worker(threads=1) as worker:
        for number in range(3):
            await bench.send("blocks", number)
        await reaches(lambda: len(started) == 1 and worker._flow.running == 3)
        worker.stop()
        await asyncio.sleep(0)
        release.set()
    assert started == [0]
    assert [message.headers["id"] for message in await bench.ready()] == ["id-2", "id-3"]


async def test_a_full_task_leaves_the_slots_to_others(bench: Bench) -> None:
    release = asyncio.Event()

    async def slow() -> None:
        await release.wait()

    bench.task(slow, max_running=5)
    bench.task(one)
    async with bench.worker(concurrency=10) as worker:
        for _ in range(10):
            await bench.send("slow")
        await reaches(lambda: worker._flow.running == 5)
        assert (await bench.final(await bench.send("one"))).result == 1
        release.set()


async def test_a_burst_survives_a_broker_that_is_away_for_a_moment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker(bench.config)
    depth, failures = broker.depth, 2

    async def flaky(queue: str) -> QueueDepth:
        nonlocal failures
        if failures:
            failures -= 1
            raise BrokerConnectionError("away")
        return await depth(queue)

    monkeypatch.setattr(broker, "depth", flaky)
    bench.task(one)
    await bench.send("one")
    worker = bench.worker(burst=True, broker=broker)
    async with asyncio.timeout(10):
        await worker.run()
    assert worker.stats.succeeded == 1


async def test_a_dying_worker_ends_its_tasks_before_it_closes_what_they_use(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncq._resources import Lifespan

    story: list[str] = []
    running = asyncio.Event()

    async def pool() -> AsyncIterator[None]:
        yield
        story.append("pool closes")

    async def uses() -> None:
        running.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            story.append("task cleans up")

    bench.task(uses)
    broken = asyncio.Event()

    async def breaks(_self: object) -> None:
        await broken.wait()
        raise ZeroDivisionError

    monkeypatch.setattr("asyncq.worker._maintenance.Maintenance.run", breaks)
    with pytest.raises(ExceptionGroup):  # noqa: PT012 - leaving the block is what raises
        async with bench.worker(lifespans=[Lifespan(pool)]) as worker:
            await bench.send("uses")
            await running.wait()
            broken.set()
            await worker.wait()
    assert story[0] == "task cleans up"


async def test_a_stop_while_the_server_is_away_ends_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(bench.config)
    tried = asyncio.Event()

    async def away() -> None:
        tried.set()
        raise BrokerConnectionError("away")

    monkeypatch.setattr(broker, "open", away)
    worker = bench.worker(broker=broker)
    run = asyncio.create_task(worker.run())
    await tried.wait()
    worker.stop()
    async with asyncio.timeout(5):
        await run


async def test_what_is_handed_back_keeps_its_order(bench: Bench) -> None:
    async def long(number: int) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(3600)

    bench.task(long)
    async with bench.worker(shutdown_timeout=0.01, kill_grace=0.1) as worker:
        for number in range(3):
            await bench.send("long", number)
        await reaches(lambda: worker._flow.running == 3)
    assert [message.headers["id"] for message in await bench.ready()] == ["id-1", "id-2", "id-3"]


async def test_no_more_bytes_are_held_than_bearable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncq.worker._receiver.MOST_BYTES", 1000)
    release = asyncio.Event()

    async def holds(_text: str) -> None:
        await release.wait()

    bench.task(holds)
    async with bench.worker(concurrency=100, queues=[Queue(name="celery")]) as worker:
        await bench.send("holds", "x" * 2000)
        await reaches(lambda: worker._flow.running == 1)
        await bench.send("holds", "y")
        for _ in range(20):
            await asyncio.sleep(0)
        assert worker.stats.received == 1
        release.set()
        await reaches(lambda: worker.stats.succeeded == 2)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_snooze_needs_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="snooze"):
        Snooze(seconds)
