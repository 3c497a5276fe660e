"""The last message was sent before the fault: no recovery may wait for another one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from chaos.aftermath import begun_again, busiest, never_begun_again
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial
from servers import RedisServer
from waiting import until

#: Seconds within which a supervisor has handed back what a child held that is gone, and until a broker that answers
#: again has brought work.
_HANDED_BACK, _BACK = 2.0, 5.0

#: Seconds: a harmful task's hard limit, and what it has for clean-up after that.
_LIMIT, _GRACE = 1.0, 1.0


@on("redis", soak=["sqlite", "rabbit"])
async def test_f24_a_child_is_killed(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F24, F1: what a killed child held is begun again within 2 s."""
    scale = scale._replace(lease=6 * scale.slack)  # so that nothing comes back by itself
    trial = Trial(tmp_path, scale, places)
    async with trial:
        await _send_the_last(trial, pause=0.2)  # they may have killed it: each has a process to itself, one at a time
        async with trial.fault("kill"):
            victim = busiest(trial.ledger.entries(), trial.fleet.workers)
            os.kill(victim, signal.SIGKILL)
            moment = time.monotonic()
            await until(lambda: not never_begun_again(trial.ledger.entries(), {victim}))
        report = await trial.finish()
    again = begun_again(report.records, {victim}, moment)
    figures(report, trial, first_again=again[0], last_again=again[-1])
    report.check(duplicates=scale.concurrency + BATCH)
    assert again[0] < _HANDED_BACK * scale.slack


@on("redis", "sqlite", soak=["rabbit"])
async def test_f24_a_host_dies(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F24, F1b: all that a dead host held is begun again within a lease and 2 s."""
    trial = Trial(tmp_path, scale, places, hosts=2)
    async with trial:
        await _send_the_last(trial)
        victim = busiest(trial.ledger.entries(), trial.fleet.workers)
        [host] = [host for host in trial.fleet.hosts if victim in host.workers]
        lost = set(host.workers)
        async with trial.fault("host"):
            moment = time.monotonic()
            trial.fleet.lose(host)
            await until(lambda: not any(pid in lost for pid in trial.fleet.workers))
        report = await trial.finish()
    again = begun_again(report.records, lost, moment)
    figures(report, trial, last_again=again[-1])
    report.check(duplicates=2 * (scale.concurrency + BATCH))
    assert again[-1] < scale.lease + 2 * scale.slack


async def test_f24_the_broker_is_killed(
    tmp_path: Path, scale: Scale, server: RedisServer, places: Places, figures: Figures
) -> None:
    """F24, F3: a broker is killed and comes back; within 5 s something ends, and all does."""
    trial = Trial(tmp_path, scale, places)
    async with trial:
        await _send_the_last(trial)
        async with trial.fault("killed"):
            server.kill()
            await asyncio.sleep(scale.fault)
            server.start()
        report = await trial.finish()
    figures(report, trial)
    report.check(duplicates=trial.in_flight)
    report.check_recovery(first=_BACK * scale.slack, rate=None)


@on("redis", "sqlite", soak=["rabbit"])
async def test_f24_the_loop_is_blocked(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F24, F13: those beside a task that blocks the loop begin again within 2 s from when its process is killed."""
    scale = scale._replace(lease=6 * scale.slack)
    trial = Trial(tmp_path, scale, places, more={"kill_grace": _GRACE})
    async with trial:
        [host] = trial.fleet.hosts
        async with trial.fault("blocked"):
            culprit = await trial.app.send_task("chaos.blocks", ["sleep"], time_limit=_LIMIT)
            await until(lambda: culprit.id in trial.ledger.ids("PERIL"))
            await trial.load.stop()
            [victim] = {record.pid for record in trial.ledger.entries("PERIL")}
            await until(lambda: victim not in host.processes_left)
            moment = time.monotonic()
        report = await trial.finish()
        state = await culprit.status()
    again = begun_again(report.records, {victim}, moment)
    figures(report, trial, last_again=max(again, default=0.0))
    report.check(duplicates=scale.concurrency + BATCH)
    assert state == "FAILURE"
    assert max(again, default=0.0) < _HANDED_BACK * scale.slack


async def _send_the_last(trial: Trial, *, pause: float = 1.0) -> None:
    """Send twice as many tasks as there are places, and wait until as many have begun."""
    await trial.load.stop()
    await trial.drain()
    places = trial.scale.concurrency * len(trial.fleet.workers)
    sent = set(await asyncio.gather(*(trial.load.send(pause=pause) for _ in range(2 * places))))
    await until(lambda: len(trial.ledger.ids("START") & sent) >= places)
