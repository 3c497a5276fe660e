"""From an app to its worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError
from asyncq._working import worker_setup
from asyncq.worker import WorkerSetup


def setup_of(queue: AsyncQ, **options: Any) -> WorkerSetup:
    broker = queue.make_broker()
    return worker_setup(
        app=queue.name,
        tasks={},
        broker=broker,
        backend=None,
        queues=queue.queues(),
        environment=queue._environment,
        producer=queue._outbox.producer,
        middleware=(),
        lifespans=(),
        exceptions=(),
        settings=queue.settings,
        options=options,  # type: ignore[arg-type]  # wrong ones are the case under test
    )


def test_settings_reach_the_worker() -> None:
    queue = AsyncQ(
        "shop",
        broker="memory://",
        concurrency=7,
        lease=5,
        shutdown_timeout=1,
        kill_grace=0.5,
        unknown_task_timeout=4,
        acks_late=False,
        ignore_result=True,
        track_started=True,
        accept_content=["yaml"],
        serializer="json",
        result_expires=60,
        result_extended=True,
        result_chord_expires=120,
        result_chord_join_timeout=10,
        result_chord_retry_interval=2,
        time_limit=9,
        soft_time_limit=8,
        timezone="Europe/Paris",
        max_message_bytes=1000,
    )
    setup = setup_of(queue)
    assert (setup.app, setup.concurrency, setup.threads) == ("shop", 7, 7)
    assert (setup.lease, setup.shutdown_timeout, setup.kill_grace) == (5.0, 1.0, 0.5)
    assert setup.unknown_task_timeout == 4.0
    assert not setup.acks_late
    assert setup.ignore_result
    assert setup.track_started
    assert set(setup.accept) == {"yaml", "json"}
    assert (setup.result_expires, setup.result_extended) == (60.0, True)
    assert (setup.chord_expires, setup.chord_claim, setup.chord_retry_interval) == (120.0, 20.0, 2.0)
    assert (setup.time_limit, setup.soft_time_limit) == (9.0, 8.0)
    assert str(setup.timezone) == "Europe/Paris"
    assert setup.limits.max_message_bytes == 1000


def test_a_blocked_loop_is_given_up_before_others_run_its_tasks() -> None:
    def stall_timeout(**settings: Any) -> float:
        return setup_of(AsyncQ("shop", broker="memory://", **settings)).stall_timeout

    assert stall_timeout() == 30.0
    assert stall_timeout(lease=600) == 30.0
    assert stall_timeout(lease=20) == 10.0
    assert stall_timeout(lease=20, stall_timeout=15) == 15.0
    with pytest.raises(ConfigurationError, match=r"stall_timeout \(20 s\) must be less than the lease \(20 s\)"):
        stall_timeout(lease=20, stall_timeout=20)


def test_its_loop_is_watched_and_ends_the_process_only_where_that_is_asked_for() -> None:
    queue = AsyncQ("shop", broker="memory://", drain_timeout=7, max_deliveries=3)
    setup = setup_of(queue)
    assert (setup.watch, setup.watchdog) == (True, False)
    assert (setup.drain_timeout, setup.max_deliveries) == (7.0, 3)
    assert setup_of(queue, watchdog=True).watchdog


def test_an_embedded_worker_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="unknown options of a worker: max_tasks_per_child"):
        setup_of(AsyncQ("shop", broker="memory://"), max_tasks_per_child=10)


def test_a_workers_options_beat_the_settings() -> None:
    queue = AsyncQ("shop", broker="memory://", concurrency=7, lease=5)
    setup = setup_of(queue, concurrency=500, lease=None, name="w1", burst=True)
    assert (setup.concurrency, setup.threads, setup.lease, setup.name, setup.burst) == (500, 64, 5.0, "w1", True)
    assert setup_of(queue, threads=3).threads == 3
    with pytest.raises(TypeError, match="unknown options of a worker: colour"):
        setup_of(queue, colour=1)
    with pytest.raises(ConfigurationError, match="concurrency must be greater than 0, not 0"):
        setup_of(queue, concurrency=0)


def test_two_workers_of_a_host_have_different_names() -> None:
    queue = AsyncQ("shop", broker="memory://")
    names = {setup_of(queue).name for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith("asyncq-") for name in names)


async def test_an_embedded_worker_runs_what_is_sent(queue: AsyncQ) -> None:
    @queue.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with queue, queue.worker(concurrency=5):
        results = [await add.send(n, 1) for n in range(20)]
        assert [await result.get(timeout=10) for result in results] == list(range(1, 21))


async def test_running_until_nothing_is_left(queue: AsyncQ) -> None:
    seen: list[int] = []

    @queue.task(queue="slow")
    async def note(n: int) -> None:
        seen.append(n)

    async with queue:
        await queue.send_many([note.s(n) for n in range(5)])
        await asyncio.wait_for(queue.run_worker(burst=True, queues=["slow"]), 10)
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_a_worker_serves_only_what_it_is_told(queue: AsyncQ) -> None:
    @queue.task
    async def note() -> None: ...

    async with queue:
        await note.send()
        await asyncio.wait_for(queue.run_worker(burst=True, queues=["other"]), 10)
        broker = queue.make_broker()
        await broker.open()
        assert (await broker.depth("celery")).ready == 1
        await broker.close()


def test_modules_are_imported_when_a_worker_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "included_tasks.py").write_text("loaded = True\n")
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    AsyncQ("shop", broker="memory://", include=["included_tasks"]).worker()
    assert sys.modules.pop("included_tasks").loaded
    with pytest.raises(ZeroDivisionError):
        AsyncQ("shop", broker="memory://", imports=["broken_tasks"]).worker()
