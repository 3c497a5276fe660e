"""The network between workers, clients and broker: partitions, resets, cuts, connections that were forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncq._clock import new_id
from chaos.places import Places, on
from chaos.proxy import Proxy
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from chaos.wire import Wire
from servers import RedisServer
from waiting import until


def _found_out(scale: Scale) -> float:
    """Seconds within which everybody must know that connections were forgotten: 15 at a time-out of 5."""
    return 5 + 2 * scale.network_timeout


@pytest.fixture
async def trial(
    tmp_path: Path, scale: Scale, places: Places, proxy: Proxy, server: RedisServer
) -> AsyncIterator[Trial]:
    """Workers and clients behind the proxy, and somebody who listens there where no file tells what was done when."""
    seen = places.behind(proxy.port).impatient(scale)
    trial = Trial(tmp_path, scale, places, broker=seen.broker, backend=seen.backend)
    if places.vhost is None:
        yield trial
    else:
        async with Wire(proxy, server) as trial.wire:
            yield trial


@on("redis", "rabbit")
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(Proxy.blackhole, id="blackhole"),
        pytest.param(lambda proxy: proxy.half_open("requests"), id="only-requests-pass"),
        pytest.param(lambda proxy: proxy.half_open("replies"), id="only-replies-pass"),
    ],
)
async def test_f5_a_partition(trial: Trial, proxy: Proxy, part: Callable[[Proxy], None], figures: Figures) -> None:
    """F5: for 30 s nothing arrives, or nothing in one direction, and nobody is told.

    Nothing is acknowledged that was not stored (the common bounds look at that in Redis's own file, and with RabbitMQ
    on the wire), no call hangs beyond its time-out, and what was running runs on; where only replies are lost, what was
    acknowledged may be unknown, and runs again.
    """
    scale = trial.scale
    async with trial:
        async with trial.fault("partition"):
            part(proxy)
            await trial.endure()
            proxy.heal()
        report = await trial.finish()
    figures(report, trial)
    report.check(duplicates=trial.in_flight)
    report.check_recovery(detected=2 * scale.network_timeout + 2)
    assert report.slowest_send < scale.network_timeout + 1


@on("redis", soak=["rabbit"])
async def test_f5b_flapping(trial: Trial, places: Places, proxy: Proxy, figures: Figures) -> None:
    """F5b: all connections are reset every 2 s for 30 s.

    At least 30 % of the throughput stays; each connection is made anew at most once a second; afterwards no worker has
    a socket or a task more than before.
    """
    scale = trial.scale
    async with trial:
        connections, accepted, ended = proxy.connections, proxy.accepted, trial.ledger.count("END")
        begun = time.monotonic()
        while time.monotonic() - begun < scale.fault:
            proxy.reset()
            await asyncio.sleep(min(2.0, scale.fault / 4))
        lasted = time.monotonic() - begun
        rate = (trial.ledger.count("END") - ended) / lasted
        renewed = (proxy.accepted - accepted) / connections / lasted
        report = await trial.finish()
        dead = await trial.dead()
    figures(report, trial, rate=rate, renewed=renewed)
    assert not dead
    resets = round(lasted / min(2.0, scale.fault / 4))
    report.check(duplicates=resets * trial.in_flight, overlap=places.overlapping)
    trial.check_baseline()
    assert rate >= 0.3 * scale.rate
    assert renewed <= 1


@on("redis", "rabbit")
async def test_f6_cuts_in_the_midst_of_frames(
    tmp_path: Path, scale: Scale, places: Places, proxy: Proxy, figures: Figures
) -> None:
    """F6: 200 times a connection ends behind a byte that nobody chose: no body is changed, nothing hangs.

    The load is small: more of it would bring the cuts nearer to each other than connections take to be made.
    """
    seen = places.behind(proxy.port)
    trial = Trial(tmp_path, scale._replace(rate=30), places, broker=seen.broker, backend=seen.backend)
    trial.load.size = 8192
    cuts = scale.times(200)
    async with trial:
        for _ in range(cuts):
            async with asyncio.timeout(20):
                await proxy.cut_after(trial.dice.randint(1, 65536))
        report = await trial.finish()
    figures(report, trial, cuts=cuts)
    report.check(duplicates=cuts * trial.in_flight, overlap=places.overlapping)


@on("redis", soak=["rabbit"])
async def test_f23_forgotten_while_busy(trial: Trial, proxy: Proxy, figures: Figures) -> None:
    """F23: a load balancer drops its table under load: the old connections carry nothing any more, for ever.

    All workers consume again within 15 s, none ends, and no send takes longer than its time-out.
    """
    async with trial:
        workers = set(trial.fleet.workers)
        async with trial.fault("forgotten"):
            proxy.forget()
            taken = await _consuming_again(trial, workers)
        report = await trial.finish()
        assert set(trial.baseline) == workers
    figures(report, trial, consuming_again=taken)
    report.check(duplicates=trial.in_flight)
    assert taken < _found_out(trial.scale)
    assert report.slowest_send < trial.scale.network_timeout + 1


@on("redis", soak=["rabbit"])
async def test_f23_forgotten_while_idle(trial: Trial, places: Places, proxy: Proxy, figures: Figures) -> None:
    """F23: the same while nothing is sent and nothing runs, and somebody waits for a result.

    What is sent 15 s later by somebody else is begun at once, and who waited is told. The next send over the
    forgotten connection comes to an end within its time-out.
    """
    async with trial:
        await trial.load.stop()
        await trial.drain()
        task_id = new_id()
        waiting = asyncio.create_task(trial.app.result(task_id).get())
        assert await trial.app.result(task_id).status() == "PENDING"
        proxy.forget()
        await asyncio.sleep(_found_out(trial.scale))

        sent = time.monotonic()
        await trial.send_past_the_proxy(task_id)
        await until(lambda: task_id in trial.ledger.ids("START"))
        begun = time.monotonic() - sent
        async with asyncio.timeout(_found_out(trial.scale)):
            assert isinstance(await waiting, str)
        told = time.monotonic() - sent
        await trial.load.send()
        await trial.load.send()
        report = await trial.finish()
    figures(report, trial, begun=begun, told=told)
    report.check(duplicates=0)
    assert begun < 1
    # The worker's connection to results was forgotten as well, and the first one to store finds out.
    assert told < trial.scale.network_timeout + 1 + trial.scale.pause[1]
    assert report.slowest_send < trial.scale.network_timeout + 1


async def _consuming_again(trial: Trial, workers: set[int]) -> float:
    """Wait until each worker has begun something that was sent from now on; returns the seconds that it took."""
    begun = time.monotonic()

    def all_have() -> bool:
        sent = {record.task_id for record in trial.ledger.entries("TRY") if record.monotonic > begun}
        return {record.pid for record in trial.ledger.entries("START") if record.task_id in sent} >= workers

    await until(all_have, timeout=2 * _found_out(trial.scale))
    return time.monotonic() - begun
