"""Worker processes and whole hosts that are killed."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from pathlib import Path

from chaos.aftermath import begun_again, first_start, never_begun_again
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial
from waiting import until

#: Seconds within which a supervisor has handed back what a dead child held, or RabbitMQ has by itself, and within which
#: a new one works.
_HANDED_BACK, _BY_RABBITMQ, _REPLACED = 2.0, 1.0, 3.0

#: Seconds from one kill to the next.
_INTERVAL = 5.0


@on("redis", "sqlite", "rabbit")
async def test_f1_children_are_killed(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F1: every 5 s a child is killed in the midst of its tasks, 6 times.

    What it held is begun again within 2 s and not after a lease, on RabbitMQ within 1 s; a new child works within 3 s.
    """
    scale = scale._replace(lease=6 * _HANDED_BACK * scale.slack)  # so that nothing comes back by itself
    trial = Trial(tmp_path, scale, places)
    kills = scale.times(6)
    killed: dict[int, float] = {}
    taken: list[float] = []
    async with trial:
        for _ in range(kills):
            before = set(trial.fleet.workers)
            victim = await trial.busiest()
            async with trial.fault("kill"):
                os.kill(victim, signal.SIGKILL)
                killed[victim] = moment = time.monotonic()
                await asyncio.sleep(_INTERVAL)  # without a look: to read a long ledger costs what the workers need
                taken.append(await _a_new_child_works(trial, before) - moment)
                await until(lambda: not never_begun_again(trial.ledger.entries(), set(killed)))
        report = await trial.finish()
    again = [begun_again(report.records, {pid}, moment) for pid, moment in killed.items()]
    first, last = max(times[0] for times in again if times), max(times[-1] for times in again if times)
    figures(report, trial, first_again=first, last_again=last, new_child=max(taken))
    report.check(duplicates=kills * (scale.concurrency + BATCH))
    assert first < (_HANDED_BACK if places.vhost is None else _BY_RABBITMQ) * scale.slack
    assert max(taken) < _REPLACED * scale.slack


async def _a_new_child_works(trial: Trial, before: set[int]) -> float:
    """Wait until a child that was not there before has begun a task; returns when that was."""

    def begun() -> float:
        return first_start(trial.ledger.entries(), set(trial.fleet.workers) - before)

    await until(lambda: begun() < math.inf)
    return begun()


@on("redis", "sqlite", "rabbit")
async def test_f1b_a_host_dies(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F1b: a supervisor and its children are killed together, while a second host lives on.

    All that they held is begun again within a lease and 2 s, on RabbitMQ within 1 s.
    """
    trial = Trial(tmp_path, scale, places, hosts=2)
    async with trial:
        host = await trial.host_at_work()
        lost = set(host.workers)
        async with trial.fault("host"):
            moment = time.monotonic()
            trial.fleet.lose(host)
        report = await trial.finish()
    again = begun_again(report.records, lost, moment)
    figures(report, trial, again=len(again), last_again=again[-1])
    report.check(duplicates=2 * (scale.concurrency + BATCH))
    assert again[-1] < places.comes_back(scale)
