"""The result back end is away, slow, or restarted under those who wait; the broker is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from asyncq._clock import new_id
from asyncq.errors import ResultTimeout
from asyncq.worker._revoker import PATIENCE
from chaos.gauges import descriptors
from chaos.ledger import Record
from chaos.places import Places
from chaos.proxy import Proxy
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from servers import RedisServer
from waiting import until

_MIB = 1024 * 1024


@pytest.fixture
def trial(tmp_path: Path, scale: Scale, server: RedisServer, proxy: Proxy) -> Trial:
    """Results behind the proxy; messages on the same server, and not behind it."""
    places = Places(broker=server.url(), backend=server.url(), trace=server.folder)
    return Trial(tmp_path, scale, places, backend=proxy.url)


@pytest.fixture
def sqlite_trial(tmp_path: Path, scale: Scale, server: RedisServer, proxy: Proxy) -> Trial:
    """Messages in a file, results on Redis behind the proxy."""
    places = Places(broker=f"sqlite:///{tmp_path}/queue.sqlite", backend=server.url())
    return Trial(tmp_path, scale, places, backend=proxy.url)


def _go(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.reset()


@pytest.mark.parametrize("vanish", [pytest.param(_go, id="gone"), pytest.param(Proxy.blackhole, id="silent")])
async def test_f7_the_back_end_is_down(
    trial: Trial, proxy: Proxy, vanish: Callable[[Proxy], None], figures: Figures
) -> None:
    """F7: 30 s without results. Tasks go on until so many wait to be concluded that the intake stops; memory is flat.

    None is acknowledged whose result is not stored; what ended is not run again; all goes on within 5 s.
    """
    await _endure_no_back_end(trial, proxy, vanish, figures)


async def test_f7_on_sqlite(sqlite_trial: Trial, proxy: Proxy, figures: Figures) -> None:
    """F7 with messages in a file."""
    await _endure_no_back_end(sqlite_trial, proxy, _go, figures)


async def _endure_no_back_end(trial: Trial, proxy: Proxy, vanish: Callable[[Proxy], None], figures: Figures) -> None:
    scale = trial.scale
    async with trial:
        async with trial.fault("no back end"):
            vanish(proxy)
            begun, started = time.monotonic(), trial.ledger.count("START")
            await trial.endure()
            lasted = time.monotonic() - begun
            starts = [record.monotonic - begun for record in trial.ledger.entries("START")[started:]]
            proxy.heal()
        report = await trial.finish()
    figures(report, trial, started=len(starts), last_start=max(starts))
    report.check(duplicates=0)
    report.check_recovery()
    # Two batches of outcomes, what runs, what was taken ahead of it and was asked for when that began.
    assert len(starts) <= 2 * (2 * max(scale.concurrency, 32) + 4 * scale.concurrency)
    assert max(starts) < lasted - 1
    assert trial.growth().resident < 10 * _MIB


async def test_f8_the_back_end_is_slow(trial: Trial, proxy: Proxy, figures: Figures) -> None:
    """F8: 2 s of latency, then 64 KiB/s. Conclusions go in batches: at least C tasks in a task's time and those 2 s."""
    scale = trial.scale
    latency = min(2.0, scale.network_timeout / 2)
    async with trial:
        proxy.delay(latency / 2)
        late = await _rate(trial, scale.fault)
        proxy.heal()
        proxy.throttle(64 * 1024)
        throttled = await _rate(trial, scale.fault)
        proxy.heal()
        report = await trial.finish()
    figures(report, trial, late=late, throttled=throttled)
    report.check(duplicates=0)
    least = min(0.9 * scale.rate, 2 * scale.concurrency / (sum(scale.pause) / 2 + latency))
    assert late >= least
    assert throttled >= least
    assert trial.growth().resident < 10 * _MIB


async def test_f8_who_wants_no_result_does_not_wait_for_a_slow_back_end(
    trial: Trial, proxy: Proxy, figures: Figures
) -> None:
    """F8: for tasks that ignore their results the time from queue to start stays what it was (p99)."""
    trial.load.task = "chaos.forgettable"
    async with trial:
        slow = time.monotonic()
        proxy.delay(trial.scale.network_timeout / 4)
        await trial.endure()
        proxy.heal()
        healed = time.monotonic()
        report = await trial.finish()
    before = _waits(report.records, slow - trial.scale.before, slow)
    during = _waits(report.records, slow, healed)
    figures(report, trial, before=before, during=during)
    report.check(duplicates=0)
    # The first batch of each worker finds out that revocations, which are kept there too, take their time.
    assert during < before + PATIENCE + 0.1


async def _rate(trial: Trial, seconds: float) -> float:
    """Ends a second in the time to come."""
    begun, ended = time.monotonic(), trial.ledger.count("END")
    await asyncio.sleep(seconds)
    return (trial.ledger.count("END") - ended) / (time.monotonic() - begun)


def _waits(records: Sequence[Record], since: float, until: float) -> float:
    """Seconds from the broker's word to the first line, of ninety-nine in a hundred sent in this time."""
    sent = {r.task_id: r.monotonic for r in records if r.kind == "TRY" and since <= r.monotonic < until}
    waits = sorted(r.monotonic - sent[r.task_id] for r in records if r.kind == "START" and r.task_id in sent)
    return waits[len(waits) * 99 // 100]


# -- readers -------------------------------------------------------------------------------------------------


@pytest.fixture
async def results(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server for results alone."""
    with RedisServer(appendonly="yes", appendfsync="always") as results:
        yield results


async def test_f21_readers_survive_a_restart(
    tmp_path: Path, scale: Scale, server: RedisServer, results: RedisServer, figures: Figures
) -> None:
    """F21: 1,000 wait for results whose server goes away; half of them give up meanwhile.

    The others know within 5 s of its return. Nobody who gave up leaves a subscription or a socket behind.
    """
    trial = Trial(tmp_path, scale, Places(broker=server.url(), backend=results.url()))
    async with trial:
        await trial.load.stop()
        await trial.drain()
        opened = descriptors()
        readers = _Readers(trial, scale.times(1000))
        await until(lambda: _subscriptions(results) == len(readers.tasks))

        async with trial.fault("no back end"):
            await asyncio.to_thread(results.stop)
            readers.cancel_half()
            await readers.send()
            await trial.endure()
            await asyncio.to_thread(results.start)
            returned = time.monotonic()
        latest = await readers.finish() - returned
        await until(lambda: _subscriptions(results) == 0)
        assert descriptors() <= opened
        report = await trial.finish()
    figures(report, trial, latest=latest)
    report.check(duplicates=0)
    assert latest < 5


async def test_f21_readers_of_a_file_that_give_up(tmp_path: Path, scale: Scale, figures: Figures) -> None:
    """F21 where there is no server: half of 1,000 readers give up, the others know, and nothing is left open."""
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    trial = Trial(tmp_path, scale, Places(broker=url, backend=url))
    async with trial:
        await trial.load.stop()
        await trial.drain()
        with pytest.raises(ResultTimeout):
            await trial.app.result(new_id()).get(0.1)  # what one reader opens stays open for the next
        opened = descriptors()
        readers = _Readers(trial, scale.times(1000))
        await asyncio.sleep(0)
        readers.cancel_half()
        sent = time.monotonic()
        await readers.send()
        latest = await readers.finish() - sent
        assert descriptors() <= opened
        report = await trial.finish()
    figures(report, trial, latest=latest)
    report.check(duplicates=0)
    assert latest < 5


class _Readers:
    """Many who wait for results of tasks that are still to be sent."""

    def __init__(self, trial: Trial, count: int) -> None:
        self._trial = trial
        self.tasks = {task_id: asyncio.create_task(self._read(task_id)) for task_id in (new_id() for _ in range(count))}

    def cancel_half(self) -> None:
        for task_id in list(self.tasks)[::2]:
            self.tasks.pop(task_id).cancel()

    async def send(self) -> None:
        """Send what the others wait for."""
        await asyncio.gather(*(self._trial.load.send(task_id=task_id) for task_id in self.tasks))

    async def finish(self) -> float:
        """Wait until all know; returns when (monotonic) the last one did."""
        async with asyncio.timeout(30):
            return max(await asyncio.gather(*self.tasks.values()))

    async def _read(self, task_id: str) -> float:
        await self._trial.app.result(task_id).get()
        return time.monotonic()


def _subscriptions(server: RedisServer) -> int:
    return int(server.command("PUBSUB", "CHANNELS", "celery-task-meta-*").partition(b"\r\n")[0][1:])
