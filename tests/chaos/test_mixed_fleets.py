"""asyncq and real Celery workers on one queue, both of which die."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from pathlib import Path

import pytest

from chaos.aftermath import begun_again, unfinished
from chaos.places import Places
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial
from processes import Program
from waiting import until

pytestmark = pytest.mark.interop

#: Seconds that a task lasts at least during which a Celery worker is killed: then it doesn't just take another message.
_LASTING = 0.1


async def test_f20_a_mixed_fleet(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F20: asyncq and Celery serve one Redis queue, and both are killed in turn.

    What a dead Celery worker held comes back after Celery's visibility timeout and not before; what a dead asyncq host
    held comes back when its leases end, to whoever is there. Celery itself may lose what it has popped and not yet
    written down, so it is killed while it runs a task, when it does neither.
    """
    visibility = math.ceil(scale.lease) + 1
    scale = scale._replace(pause=(_LASTING, 2 * _LASTING))
    options = {"broker_transport_options": {"visibility_timeout": visibility}}
    trial = Trial(tmp_path, scale, places, hosts=2, more=options)
    config = {"url": places.broker, "ledger": str(trial.ledger.path), "visibility_timeout": visibility}
    taken: dict[int, float] = {}
    async with trial:
        for _ in range(scale.times(3)):
            celery = Program("chaos.celery_program", config, strict=False)
            async with celery:
                pid = celery.pid
                await until(lambda known=pid: trial.ledger.writers("END")[known] > 3)
                taken[pid] = await _stop_in_the_midst_of_a_task(trial, pid)
                celery.kill()
        async with Program("chaos.celery_program", config, strict=False) as celery:
            await until(lambda: trial.ledger.writers("END")[celery.pid] > 3)
            host = await trial.host_at_work()
            lost = set(host.workers)
            async with trial.fault("host"):
                trial.fleet.lose(host)
                died = time.monotonic()
                await asyncio.sleep(scale.lease + visibility)
            await trial.load.stop()
            await trial.drain()
            assert await asyncio.to_thread(celery.stop) == 0
        report = await trial.finish()
    soonest = [begun_again(report.records, {pid}, moment)[0] for pid, moment in taken.items()]
    again = begun_again(report.records, lost, died)
    figures(report, trial, soonest_of_celery=min(soonest), last_again=again[-1])
    report.check(duplicates=2 * (scale.concurrency + BATCH) + len(taken))
    assert min(soonest) > visibility
    assert again[-1] < scale.lease + 2 * scale.slack
    assert all(len(unfinished(report.records, {pid})) == 1 for pid in taken)


async def _stop_in_the_midst_of_a_task(trial: Trial, pid: int) -> float:
    """Stop this process while it runs a task; returns when that began."""
    while True:
        begun = trial.ledger.writers("START")[pid]
        await until(lambda known=begun: trial.ledger.writers("START")[pid] > known)
        os.kill(pid, signal.SIGSTOP)
        last = [record for record in trial.ledger.entries() if record.pid == pid][-1]
        if last.kind == "START":
            return last.monotonic
        os.kill(pid, signal.SIGCONT)
