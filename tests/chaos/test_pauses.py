"""Processes that stand still for a while and go on as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial


@on("redis", soak=["sqlite", "rabbit"])
async def test_f22_a_child_is_stopped(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F22: a child is stopped for 30 s (a laptop lid, a paused machine), then goes on.

    Its leases end, or its heartbeats are missed, and others run its work; when it wakes it neither stores nor
    acknowledges over the new owner.
    """
    trial = Trial(tmp_path, scale, places, broker=places.impatient(scale).broker)
    async with trial:
        sleeper = await trial.busiest()
        async with trial.fault("stopped"):
            os.kill(sleeper, signal.SIGSTOP)
            await asyncio.sleep(max(scale.fault, places.misses(scale)))
            os.kill(sleeper, signal.SIGCONT)
        report = await trial.finish()
        again = sum(1 for record in report.records if record.kind == "END" and record.pid == sleeper)
    figures(report, trial, ended_by_sleeper=again)
    report.check(duplicates=scale.concurrency + BATCH, overlap=True)
    assert sleeper in trial.final
