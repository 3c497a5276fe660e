"""What the flight table says of a worker's tasks, from the first line of their code to the last word about them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence

import pytest

from asyncq._context import Context
from asyncq._flight import Phase, Stage, monotonic
from asyncq.driver import Delivery, Settlement, StoredResult
from asyncq.errors import Snooze
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from worker.bench import Bench, reaches
from worker.post import Post


class Held:
    """A broker whose consumer answers settlements when it is let go."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.broker = MemoryBroker(bench.config)
        consume = self.broker.consume

        def held(*args: object, **kwargs: object) -> object:
            consumer = consume(*args, **kwargs)  # type: ignore[arg-type] - passed through
            settle = consumer.settle

            async def slowly(settlements: Sequence[Settlement]) -> list[Delivery]:
                self.asked.set()
                await self.go_on.wait()
                return await settle(settlements)

            monkeypatch.setattr(consumer, "settle", slowly)
            return consumer

        monkeypatch.setattr(self.broker, "consume", held)


async def test_the_header_says_how_far_the_worker_is_and_what_it_was_told(bench: Bench) -> None:
    worker = bench.worker(stall_timeout=11.0, shutdown_timeout=7.0, kill_grace=3.0)
    with Post(worker, brief=b"who") as post:
        assert post.header.phase == Phase.STARTING
        assert (post.header.stall_timeout, post.header.shutdown_timeout, post.header.kill_grace) == (11.0, 7.0, 3.0)
        async with worker:
            assert post.header.phase == Phase.READY
            await reaches(lambda: post.header.beats >= 3)
        assert post.header.phase == Phase.STOPPING


async def test_there_is_always_some_time_for_the_end(bench: Bench) -> None:
    worker = bench.worker(kill_grace=0.0)
    with Post(worker) as post:
        assert post.header.kill_grace == 0.5
        async with worker:
            now = monotonic()
            worker.condemn("a test")
            assert post.header.drain_until >= now + 5.0 + 0.5


async def test_a_task_stands_there_while_its_code_runs(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        running.set()
        await release.wait()

    bench.task(waits, time_limit=100)
    worker = bench.worker()
    with Post(worker) as post:
        async with worker:
            task_id = await bench.send("waits")
            await running.wait()
            [flight] = post.flights
            release.set()
            await bench.final(task_id)
            await reaches(lambda: not post.flights)
            assert post.header.ended == 1
    assert (flight.stage, flight.task_id, flight.task, flight.queue) == (Stage.RUNNING, task_id, "waits", "celery")
    assert flight.tag
    assert monotonic() - 20 < flight.started_at < monotonic()
    assert flight.deadline == pytest.approx(flight.started_at + 100, abs=0.01)


async def test_a_task_without_a_limit_has_no_deadline(bench: Bench) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits)
    worker = bench.worker(shutdown_timeout=0.0)
    with Post(worker) as post:
        async with worker:
            await bench.send("waits")
            await running.wait()
            [flight] = post.flights
        assert flight.deadline == math.inf
        assert post.flights == []  # handed back: nobody else's business
        assert post.header.ended == 0


@pytest.mark.parametrize("soft_time_limit", [None, 5.0])
async def test_whose_code_the_loop_runs_is_known_in_every_step(bench: Bench, soft_time_limit: float | None) -> None:
    seen: list[tuple[int, int]] = []

    async def looks(ctx: Context) -> None:
        for _ in range(3):
            own = next(flight.slot for flight in post.flights if flight.task_id == ctx.task_id)
            seen.append((post.header.on_loop, own))
            await asyncio.sleep(0.001)

    bench.task(looks, soft_time_limit=soft_time_limit)
    worker = bench.worker()
    with Post(worker) as post:
        async with worker:
            for task_id in [await bench.send("looks") for _ in range(3)]:
                await bench.final(task_id)
            assert post.header.on_loop == 0
    assert len(seen) == 9
    assert all(marked == own for marked, own in seen)


async def test_there_is_a_slot_for_each_when_more_may_run_than_at_the_start(bench: Bench) -> None:
    release = asyncio.Event()

    async def waits() -> None:
        await release.wait()

    bench.task(waits)
    worker = bench.worker(concurrency=1)
    with Post(worker) as post:
        async with worker:
            worker._flow.resize(10_000)  # as by remote control
            assert worker.concurrency == 1000
            for _ in range(200):
                await bench.send("waits")
            await reaches(lambda: len(post.flights) == 200)
            release.set()
            await bench.until(lambda depth: (depth.ready, depth.in_flight) == (0, 0))


async def test_threads_that_work_are_counted_until_they_really_end(bench: Bench) -> None:
    working, release = threading.Event(), threading.Event()

    def works() -> None:
        working.set()
        release.wait(10)

    bench.task(works, time_limit=0.5)
    worker = bench.worker(kill_grace=0.02)
    with Post(worker) as post:
        async with worker:
            task_id = await bench.send("works")
            await reaches(working.is_set)
            assert post.header.threads == 1
            await bench.final(task_id)
            assert post.header.threads == 1
            release.set()
            await reaches(lambda: post.header.threads == 0)


async def test_other_threads_tell_of_their_turns_while_the_loop_is_blocked(bench: Bench) -> None:
    async def blocks() -> None:
        looks, beats = post.header.looks, post.header.beats
        deadline = monotonic() + 10
        while post.header.looks < looks + 2 and monotonic() < deadline:
            time.sleep(0.02)  # noqa: ASYNC251 - that is what it is about
        assert post.header.beats == beats

    bench.task(blocks)
    worker = bench.worker()
    with Post(worker) as post:
        async with worker:
            assert (await bench.final(await bench.send("blocks"))).status == "SUCCESS"


async def test_what_is_stored_and_not_yet_acknowledged_is_concluded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick() -> int:
        return 1

    bench.task(quick)
    held = Held(bench, monkeypatch)
    worker = bench.worker(broker=held.broker)
    with Post(worker) as post:
        async with worker:
            await bench.final(await bench.send("quick"))
            await held.asked.wait()
            assert [flight.stage for flight in post.flights] == [Stage.CONCLUDED]
            held.go_on.set()
            await reaches(lambda: not post.flights)


async def test_what_is_to_come_again_is_not_concluded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be acknowledged by those who clean up, and be lost."""

    async def snoozes() -> None:
        raise Snooze(1000)

    bench.task(snoozes)
    held = Held(bench, monkeypatch)
    worker = bench.worker(broker=held.broker)
    with Post(worker) as post:
        async with worker:
            await bench.send("snoozes")
            await held.asked.wait()
            assert [flight.stage for flight in post.flights] == [Stage.RUNNING]
            held.go_on.set()
            await reaches(lambda: not post.flights)


async def test_what_was_acknowledged_early_says_so_until_its_record_is_stored(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        running.set()
        await release.wait()

    bench.task(waits, acks_late=False)
    worker = bench.worker()
    with Post(worker) as post:
        async with worker:
            task_id = await bench.send("waits")
            await running.wait()
            [flight] = post.flights
            release.set()
            await bench.final(task_id)
            await reaches(lambda: not post.flights)
    assert flight.stage == Stage.ACKNOWLEDGED


async def test_what_was_acknowledged_early_stands_there_before_its_code_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its start is being stored, which takes as long as the backend is away, nobody else knows of it."""
    storing, release = asyncio.Event(), asyncio.Event()
    backend = MemoryBackend(bench.config)
    store = backend.store

    async def slowly(records: Sequence[StoredResult]) -> None:
        storing.set()
        await release.wait()
        await store(records)

    monkeypatch.setattr(backend, "store", slowly)

    async def quick() -> None: ...

    bench.task(quick, acks_late=False, track_started=True, time_limit=100)
    worker = bench.worker(backend=backend)
    with Post(worker) as post:
        async with worker:
            task_id = await bench.send("quick")
            await storing.wait()
            assert [(flight.task_id, flight.stage) for flight in post.flights] == [(task_id, Stage.ACKNOWLEDGED)]
            release.set()
            await bench.final(task_id)
            await reaches(lambda: not post.flights)


async def test_what_is_about_to_be_acknowledged_early_stands_there_already(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick() -> None: ...

    bench.task(quick, acks_late=False)
    held = Held(bench, monkeypatch)
    worker = bench.worker(broker=held.broker)
    with Post(worker) as post:
        async with worker:
            task_id = await bench.send("quick")
            await held.asked.wait()
            assert [(flight.task_id, flight.stage) for flight in post.flights] == [(task_id, Stage.RUNNING)]
            held.go_on.set()
            await bench.final(task_id)
            await reaches(lambda: not post.flights)


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        ({}, False),
        ({"ignore_result": True}, True),
        ({"ignore_result": True, "store_errors_even_if_ignored": True}, False),
    ],
)
async def test_it_says_whether_a_failure_would_be_stored(bench: Bench, options: dict[str, bool], ignored: bool) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits, **options)
    worker = bench.worker(shutdown_timeout=0.0)
    with Post(worker) as post:
        async with worker:
            await bench.send("waits")
            await running.wait()
            assert [flight.ignore_result for flight in post.flights] == [ignored]


async def test_hundreds_come_and_go_and_leave_nothing_behind(bench: Bench) -> None:
    async def quick() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        raise LookupError

    async def early() -> None: ...

    for task, options in ((quick, {}), (fails, {}), (early, {"acks_late": False})):
        bench.task(task, **options)
    for _ in range(200):
        for name in ("quick", "fails", "early"):
            await bench.send(name)
    worker = bench.worker(burst=True, concurrency=10)
    with Post(worker) as post:
        async with asyncio.timeout(20):
            await worker.run()
        assert post.flights == []
        assert post.header.ended == 600


async def test_the_supervisors_words_are_heard(bench: Bench) -> None:
    running = asyncio.Event()

    async def long() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(long)
    for words in (b"N", b"TN", b"TTN"):
        running.clear()
        worker = bench.worker(shutdown_timeout=3600)
        with Post(worker) as post:
            async with asyncio.timeout(10):
                await worker.__aenter__()
                await bench.send("long")
                await running.wait()
                post.say(words)
                await worker.wait()
        assert (await bench.depth()).in_flight == 0


async def test_what_could_not_be_settled_is_told_at_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits)
    held = Held(bench, monkeypatch)
    worker = bench.worker(broker=held.broker, shutdown_timeout=0.0, kill_grace=0.5)
    with Post(worker) as post:
        async with worker:
            await bench.send("waits")
            await running.wait()
        assert post.header.phase == Phase.UNSETTLED
        assert [flight.stage for flight in post.flights] == [Stage.RUNNING]


async def test_a_worker_whose_supervisor_has_died_drains_and_ends(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        running.set()
        await release.wait()

    bench.task(waits)
    worker = bench.worker()
    with Post(worker) as post:
        async with asyncio.timeout(10):
            await worker.__aenter__()
            task_id = await bench.send("waits")
            await running.wait()
            post.die()
            await reaches(lambda: post.header.phase == Phase.STOPPING)
            release.set()
            await worker.wait()
    record = await bench.record(task_id)
    assert record is not None
    assert record.status == "SUCCESS"
