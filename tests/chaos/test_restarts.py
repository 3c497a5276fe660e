"""The broker goes away and comes back: restarted, killed, stopped in its tracks, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from chaos.app import make_app
from chaos.load import Load
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from chaos.vhost import Vhost
from servers import RabbitServer, RedisServer

Server: TypeAlias = RedisServer | RabbitServer

_MIB = 1024 * 1024


@pytest.fixture
def trial(tmp_path: Path, scale: Scale, places: Places) -> Trial:
    return Trial(tmp_path, scale, places, broker=places.impatient(scale).broker)


def _stop(server: Server) -> None:
    server.stop()


def _kill(server: Server) -> None:
    server.kill()


@on("redis", "own-rabbit")
@pytest.mark.parametrize("end", [pytest.param(_stop, id="stopped"), pytest.param(_kill, id="killed")])
async def test_f3_a_restart(
    trial: Trial, broker_server: Server, end: Callable[[Server], None], figures: Figures
) -> None:
    """F3: the broker is down for 5 s, after a clean end or a SIGKILL.

    Workers consume again within 5 s of its first answer, at nine tenths of the rate within 10 s; sends in the gap
    raise within 5 s or succeed; memory stays.
    """
    async with trial:
        async with trial.fault("restart"):
            await asyncio.to_thread(end, broker_server)
            await asyncio.sleep(min(5.0, trial.scale.fault))
            await asyncio.to_thread(broker_server.start)
        report = await trial.finish()
    figures(report, trial)
    report.check(duplicates=trial.in_flight)
    report.check_recovery()
    assert report.slowest_send < 5
    assert trial.growth().resident < 20 * _MIB


@on("redis", "own-rabbit")
async def test_f4_a_broker_that_stands_still(trial: Trial, broker_server: Server, figures: Figures) -> None:
    """F4: SIGSTOP for 30 s. It is noticed, no call hangs beyond its time-out, what runs runs on; then as in F3."""
    scale = trial.scale
    async with trial:
        async with trial.fault("stopped"):
            with broker_server.paused():
                await trial.endure()
        report = await trial.finish()
    figures(report, trial)
    # Who outlives a lease that nobody could renew may run twice, at the same time.
    report.check(duplicates=2 * 2 * scale.concurrency, overlap=True)
    report.check_recovery(detected=2 * scale.network_timeout + 2)
    assert report.slowest_send < scale.network_timeout + 1


async def test_f18_restart_after_restart(trial: Trial, broker_server: Server, figures: Figures) -> None:
    """F18: restarted 50 times, 2 s after it was back. Nobody keeps a task, a socket or memory of it."""
    restarts = trial.scale.times(50)
    async with trial:
        for _ in range(restarts):
            async with trial.fault("restart"):
                await asyncio.to_thread(broker_server.restart)
            await asyncio.sleep(2)
        report = await trial.finish()
    figures(report, trial, restarts=restarts)
    report.check(duplicates=restarts * trial.in_flight)
    _check_baseline(trial)


@on("redis", "rabbit")
async def test_f18_connections_killed_again_and_again(
    trial: Trial, vhost: Vhost | None, broker_server: Server, figures: Figures
) -> None:
    """F18: all connections are ended every 200 ms for 60 s, on RabbitMQ every 200 ms after that has ended."""

    def kill() -> None:
        if vhost is not None:
            vhost.close_connections()
        else:
            assert isinstance(broker_server, RedisServer)
            for kind in ("normal", "pubsub"):
                broker_server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    kills = 0
    async with trial:
        until_then = time.monotonic() + 2 * trial.scale.fault
        while time.monotonic() < until_then:
            await asyncio.to_thread(kill)
            kills += 1
            await asyncio.sleep(0.2)
        report = await trial.finish()
        dead = await trial.dead()
    figures(report, trial, kills=kills)
    assert not dead
    report.check(duplicates=kills * trial.in_flight, overlap=vhost is not None)
    _check_baseline(trial)


@on("redis", "sqlite", "rabbit")
async def test_f18_clients_that_come_send_and_go(
    tmp_path: Path, scale: Scale, places: Places, figures: Figures
) -> None:
    """F18: 1,000 clients connect, send one task and leave."""
    trial = Trial(tmp_path, scale, places)
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
    trial.check_baseline()
    assert trial.growth().resident < 10 * _MIB
