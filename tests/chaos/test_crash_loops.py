"""Workers that die again and again while they start."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from pathlib import Path

from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial
from waiting import until

#: Deaths of children, before a task had ended in any of them, after which a supervisor gives up; and its exit code.
_DEATHS, _FAILED = 5, 1

_QUEUE = "celery"


@on("redis", soak=["sqlite", "rabbit"])
async def test_f19_a_redelivery_storm(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F19: 100,000 messages are ready, and a worker is killed 10 times, as soon as it has begun with them.

    By the broker's count no more is in flight at any moment than who lives may take, and those that died may have taken
    as long as nobody has lived long enough to rescue it. Nothing goes to the dead letters.
    """
    scale = scale._replace(pause=(0.001, 0.002))
    trial = Trial(tmp_path, scale, places)
    share = 2 * (2 * scale.concurrency + BATCH)
    ready, kills = scale.times(100_000), scale.times(10)
    killed = excess = 0
    rescued_at = math.inf
    async with trial:
        await trial.load.stop()
        await trial.drain()

        async def watch() -> None:
            nonlocal excess
            while True:
                unrescued = 0 if time.monotonic() > rescued_at else killed
                excess = max(excess, await trial.held() - share * (1 + unrescued))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        async with trial.fault("storm"):
            trial.fleet.lose(trial.fleet.hosts[0])
            for _ in range(ready // 500):
                await trial.load.send_burst(500)
            for _ in range(kills):
                begun = trial.ledger.count("START")
                host = await trial.fleet.add()
                await until(lambda known=begun: trial.ledger.count("START") > known)
                trial.fleet.lose(host)
                killed += 1
            await trial.fleet.add()
            rescued_at = time.monotonic() + scale.lease + 2 * scale.slack

            async def nothing_is_ready() -> bool:
                return (await trial.broker.depth(_QUEUE)).ready == 0

            await until(nothing_is_ready, timeout=ready / 100)
        report = await trial.finish()
        watching.cancel()
        await asyncio.wait([watching])
        dead = await trial.dead()
    figures(report, trial, excess=excess)
    report.check(duplicates=kills * 2 * (scale.concurrency + BATCH))
    assert excess <= 0
    assert not dead


async def test_f19_a_crash_loop(tmp_path: Path, scale: Scale, places: Places) -> None:
    """F19: five children die in a row before a task has ended in any of them: the supervisor ends, and not with 0.

    Nobody else is disturbed.
    """
    trial = Trial(tmp_path, scale, places)
    killed: set[int] = set()
    async with trial:
        await trial.load.stop()
        await trial.drain()
        host = await trial.fleet.add()
        while host.processes_left:
            for pid in set(host.workers) - killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.01)
        code = await host.wait()
        trial.fleet.lose(host)
        report = await trial.finish()
    report.check(duplicates=0)
    assert code == _FAILED
    assert _DEATHS <= len(killed) <= _DEATHS + 1  # there are two children
