"""The broker goes away and comes back: restarted, killed, stopped in its tracks, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.app import make_app
from chaos.load import Load
from chaos.scale import Scale
from chaos.trial import Figures, Places, Trial
from servers import RedisServer

_MIB = 1024 * 1024


@pytest.fixture
def trial(tmp_path: Path, scale: Scale, places: Places) -> Trial:
    return Trial(tmp_path, scale, places)


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
async def test_f3_a_restart(
    trial: Trial, server: RedisServer, end: Callable[[RedisServer], None], figures: Figures
) -> None:
    """F3: the broker is down for 5 s, after a clean end or a SIGKILL.

    Workers consume again within 5 s of its first answer, at nine tenths of the rate within 10 s; sends in the gap
    raise within 5 s or succeed; memory stays.
    """
    async with trial:
        async with trial.fault("restart"):
            await asyncio.to_thread(end, server)
            await asyncio.sleep(min(5.0, trial.scale.fault))
            await asyncio.to_thread(server.start)
        report = await trial.finish()
    figures(report, trial)
    report.check(duplicates=trial.in_flight)
    report.check_recovery()
    assert report.slowest_send < 5
    assert trial.growth().resident < 20 * _MIB


async def test_f4_a_broker_that_stands_still(trial: Trial, server: RedisServer, figures: Figures) -> None:
    """F4: SIGSTOP for 30 s. It is noticed, no call hangs beyond its time-out, what runs runs on; then as in F3."""
    scale = trial.scale
    async with trial:
        async with trial.fault("stopped"):
            with server.paused():
                await trial.endure()
        report = await trial.finish()
    figures(report, trial)
    # Who outlives a lease that nobody could renew may run twice, at the same time.
    report.check(duplicates=2 * 2 * scale.concurrency, overlap=True)
    report.check_recovery(detected=2 * scale.network_timeout + 2)
    assert report.slowest_send < scale.network_timeout + 1


async def test_f18_restart_after_restart(trial: Trial, server: RedisServer, figures: Figures) -> None:
    """F18: restarted 50 times, 2 s after it was back. Nobody keeps a task, a socket or memory of it."""
    restarts = trial.scale.times(50)
    async with trial:
        for _ in range(restarts):
            async with trial.fault("restart"):
                await asyncio.to_thread(server.restart)
            await asyncio.sleep(2)
        report = await trial.finish()
    figures(report, trial, restarts=restarts)
    report.check(duplicates=restarts * trial.in_flight)
    _check_baseline(trial)


async def test_f18_connections_killed_again_and_again(trial: Trial, server: RedisServer, figures: Figures) -> None:
    """F18: `CLIENT KILL` of all connections every 200 ms for 60 s."""
    kills = 0
    async with trial:
        until_then = time.monotonic() + 2 * trial.scale.fault
        while time.monotonic() < until_then:
            for kind in ("normal", "pubsub"):
                server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            kills += 1
            await asyncio.sleep(0.2)
        report = await trial.finish()
    figures(report, trial, kills=kills)
    report.check(duplicates=kills * trial.in_flight)
    _check_baseline(trial)


async def test_f18_clients_that_come_send_and_go(
    tmp_path: Path, scale: Scale, any_places: Places, figures: Figures
) -> None:
    """F18: 1,000 clients connect, send one task and leave."""
    trial = Trial(tmp_path, scale, any_places)
    clients = scale.times(1000)
    async with trial:
        for _ in range(clients):
            async with make_app(trial.settings) as app:
                await Load(app, trial.ledger, scale, trial.dice).send()
        report = await trial.finish()
    figures(report, trial, clients=clients)
    report.check(duplicates=0)
    assert not any(record.kind == "NACK" for record in report.records)
    _check_baseline(trial)


def _check_baseline(trial: Trial) -> None:
    growth = trial.growth()
    assert growth.tasks <= 0
    assert growth.descriptors <= 0
    assert growth.resident < 10 * _MIB
