"""A process that is worn out: it takes nothing new, asks for another one in its place, and lets what runs end."""

from __future__ import annotations

import asyncio
import mmap
import threading

import pytest

from asyncq._flight import Phase, monotonic
from asyncq.worker import _wear
from worker.bench import Bench, reaches
from worker.post import Post


async def test_a_task_that_cannot_be_stopped_condemns_its_process(bench: Bench) -> None:
    release, innocents_end, swallowing = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def swallows() -> None:
        swallowing.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def innocent() -> str:
        await innocents_end.wait()
        return "ended"

    bench.task(swallows, time_limit=0.5)
    bench.task(innocent)
    worker = bench.worker(concurrency=2, kill_grace=0.1, shutdown_timeout=5.0)
    with Post(worker) as post:
        async with worker:
            innocents_id = await bench.send("innocent")
            culprits_id = await bench.send("swallows")
            await swallowing.wait()
            failure = await bench.final(culprits_id)
            assert (failure.status, failure.result["exc_type"]) == ("FAILURE", "TimeLimitExceeded")
            await reaches(lambda: post.header.phase == Phase.CONDEMNED)
            late_id = await bench.send("innocent")
            innocents_end.set()
            async with asyncio.timeout(5):
                await worker.wait()  # by itself: nobody has told it to stop
        assert post.header.phase == Phase.CONDEMNED
        assert post.flights == []
    ended = await bench.record(innocents_id)
    assert ended is not None
    assert ended.status == "SUCCESS"
    assert await bench.record(late_id) is None
    assert (await bench.depth()).ready == 1
    assert worker.abandoned
    release.set()
    await reaches(lambda: not worker.abandoned)


async def test_a_thread_that_cannot_be_stopped_does_so_too(bench: Bench) -> None:
    release = threading.Event()

    def blocks() -> None:
        release.wait()

    bench.task(blocks, time_limit=0.5)
    worker = bench.worker(kill_grace=0.1)
    with Post(worker) as post:
        try:
            async with worker:
                task_id = await bench.send("blocks")
                assert (await bench.final(task_id)).result["exc_type"] == "TimeLimitExceeded"
                async with asyncio.timeout(5):
                    await worker.wait()
            assert post.header.phase == Phase.CONDEMNED
            assert worker.abandoned
        finally:
            release.set()
        await reaches(lambda: not worker.abandoned)


async def test_a_thread_that_ends_within_its_grace_does_no_harm(bench: Bench) -> None:
    ended = threading.Event()

    def slow() -> None:
        threading.Event().wait(0.15)
        ended.set()

    bench.task(slow, time_limit=0.5)
    worker = bench.worker(kill_grace=10.0)
    with Post(worker) as post:
        async with worker:
            await bench.final(await bench.send("slow"))
            await reaches(ended.is_set)
            await reaches(lambda: not worker.abandoned)
            assert post.header.phase == Phase.READY


async def test_what_has_not_started_goes_back_at_once(bench: Bench) -> None:
    release = asyncio.Event()

    async def waits() -> None:
        await release.wait()

    async def quick() -> None: ...

    bench.task(waits)
    bench.task(quick)
    worker = bench.worker(concurrency=1)
    with Post(worker) as post:
        async with worker:
            await bench.final(await bench.send("quick"))  # nothing is prefetched before a rate is known
            for _ in range(3):
                await bench.send("waits")
            await reaches(lambda: worker.stats.received == 3)
            worker.condemn("for the test")
            await bench.until(lambda depth: depth.ready == 2)
            assert len(post.flights) == 1
            release.set()
            async with asyncio.timeout(5):
                await worker.wait()
    assert (await bench.depth()).ready == 2


@pytest.mark.parametrize(
    ("settings", "time_limit", "expected"),
    [
        ({"shutdown_timeout": 8.0}, None, 8.0),
        ({"shutdown_timeout": 8.0}, 60.0, 60.0),
        ({"shutdown_timeout": 8.0}, 5.0, 8.0),
        ({"shutdown_timeout": 8.0}, 3600.0, 300.0),
        ({"shutdown_timeout": 400.0}, 3600.0, 400.0),
        ({"shutdown_timeout": 8.0, "drain_timeout": 2.0}, 60.0, 2.0),
        ({"shutdown_timeout": 8.0, "drain_timeout": 3600.0}, None, 3600.0),
    ],
)
async def test_how_long_it_may_drain(
    bench: Bench, settings: dict[str, float], time_limit: float | None, expected: float
) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits, time_limit=time_limit)
    worker = bench.worker(kill_grace=2.0, **settings)
    with Post(worker) as post:
        async with worker:
            await bench.send("waits")
            await running.wait()
            worker.condemn("for the test")
            # The supervisor waits for what comes after draining, too.
            assert post.header.drain_until - monotonic() == pytest.approx(expected + 2.0, abs=0.5)
            worker.stop(now=True)


async def test_what_has_not_ended_by_then_is_handed_back(bench: Bench) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits)
    worker = bench.worker(drain_timeout=0.05, shutdown_timeout=3600)
    with Post(worker):
        async with worker:
            await bench.send("waits")
            await running.wait()
            worker.condemn("for the test")
            async with asyncio.timeout(5):
                await worker.wait()
    assert (await bench.depth()).ready == 1


async def test_being_told_to_stop_shortens_the_drain(bench: Bench) -> None:
    running = asyncio.Event()

    async def waits() -> None:
        running.set()
        await asyncio.Event().wait()

    bench.task(waits)
    worker = bench.worker(drain_timeout=3600, shutdown_timeout=0.05)
    with Post(worker) as post:
        async with worker:
            await bench.send("waits")
            await running.wait()
            worker.condemn("for the test")
            await reaches(lambda: post.header.phase == Phase.CONDEMNED)
            await asyncio.sleep(0.02)  # it drains
            post.say(b"T")
            async with asyncio.timeout(5):
                await worker.wait()
        assert post.header.phase == Phase.CONDEMNED  # it wanted to be replaced, and that is still so
    assert (await bench.depth()).ready == 1


async def test_a_process_is_worn_out_after_so_many_tasks(bench: Bench) -> None:
    async def quick() -> None: ...

    bench.task(quick)
    worker = bench.worker(concurrency=1)
    with Post(worker, max_tasks=5) as post:
        async with worker:
            for _ in range(50):
                await bench.send("quick")
            async with asyncio.timeout(10):
                await worker.wait()
        assert post.header.phase == Phase.CONDEMNED
        assert 5 <= post.header.ended < 50
    assert worker.stats.succeeded + (await bench.depth()).ready == 50


async def test_a_process_is_worn_out_when_it_holds_too_much_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick() -> None: ...

    bench.task(quick)
    held = 1000
    monkeypatch.setattr(_wear, "resident_kib", lambda: held)
    worker = bench.worker()
    with Post(worker, max_memory=2000) as post:
        async with worker:
            await bench.final(await bench.send("quick"))
            await reaches(lambda: post.header.beats >= 6)
            assert post.header.phase == Phase.READY
            held = 2001
            async with asyncio.timeout(10):
                await worker.wait()
        assert post.header.phase == Phase.CONDEMNED


async def test_a_limit_that_no_process_could_keep_lets_each_of_them_do_something(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick() -> str:
        return "done"

    bench.task(quick)
    monkeypatch.setattr(_wear, "resident_kib", lambda: 50_000)
    worker = bench.worker()
    with Post(worker, max_memory=1) as post:
        async with worker:
            await reaches(lambda: post.header.beats >= 6)
            assert (await bench.final(await bench.send("quick"))).result == "done"
            async with asyncio.timeout(10):
                await worker.wait()


def test_the_memory_of_a_process_is_known_in_kib() -> None:
    before = _wear.resident_kib()
    size = 64 * 1024 * 1024
    with mmap.mmap(-1, size) as ballast:  # pages of its own: the heap may have room that is resident already
        for page in range(0, size, mmap.PAGESIZE):
            ballast[page] = 1
        assert 56 * 1024 < _wear.resident_kib() - before < 96 * 1024


async def test_without_a_supervisor_nobody_could_replace_it(bench: Bench) -> None:
    async def quick() -> str:
        return "done"

    bench.task(quick)
    async with bench.worker() as worker:
        worker.condemn("for the test")
        assert (await bench.final(await bench.send("quick"))).result == "done"
