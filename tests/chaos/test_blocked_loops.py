"""Tasks that hold the loop of a whole process, or that cannot be cancelled."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Literal

import pytest

from asyncq import TimeLimitExceeded
from chaos.aftermath import begun_again, ends_between, first_start
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import BATCH, Figures, Trial
from waiting import until

#: Seconds: the harmful task's hard limit, and what it has for clean-up after that.
_LIMIT, _GRACE = 2.0, 1.0

#: Seconds within which who holds the loop is told; the process is killed after limit and grace; and what it held is
#: begun again.
_TOLD, _KILLED, _HANDED_BACK = 2.0, 1.0, 2.0


@pytest.mark.parametrize(
    ("kind", "how"), [("redis", "python"), ("redis", "regex"), ("redis", "sleep"), ("rabbit", "python")]
)
async def test_f13_the_loop_is_blocked(
    tmp_path: Path, scale: Scale, places: Places, figures: Figures, how: Literal["python", "regex", "sleep"]
) -> None:
    """F13: a task computes for 60 s, with the interpreter to itself or not, or sleeps without await; its limit is 5 s.

    Its stack is in the log within 2 s; its process is killed when limit and grace are over, a second later at most; it
    ends as TimeLimitExceeded, once; those beside it begin again within 2 s; the other child goes on as before.
    """
    # Where everything takes longer, the lease of who is blocked is not to end before he is killed.
    scale = scale._replace(lease=6 * scale.slack)
    trial = Trial(tmp_path, scale, places, more={"kill_grace": _GRACE})
    async with trial:
        [host] = trial.fleet.hosts
        before = set(host.workers)
        async with trial.fault("blocked"):
            culprit = await trial.app.send_task("chaos.blocks", [how], time_limit=_LIMIT)
            await until(lambda: culprit.id in trial.ledger.ids("PERIL"))
            begun = time.monotonic()
            [victim] = {record.pid for record in trial.ledger.entries("PERIL")}
            await until(lambda: "has been blocked for" in host.log.read_text() or victim not in host.processes_left)
            told = time.monotonic() - begun
            await until(lambda: victim not in host.processes_left)
            killed = time.monotonic() - begun
            assert isinstance(await culprit.get(timeout=20, propagate=False), TimeLimitExceeded)
            await until(lambda: len(host.workers) == 2)
        report = await trial.finish()
        runs = trial.ledger.runs("PERIL")[culprit.id]
        log = host.log.read_text()
    again = begun_again(report.records, {victim}, begun + killed)
    other = ends_between(report.records, begun, begun + killed, pids=before - {victim}) / killed
    figures(report, trial, told=told, killed=killed, again=max(again, default=0.0), other=other)
    report.check(duplicates=scale.concurrency + BATCH)
    assert runs == 1
    assert killed < _LIMIT + _GRACE + _KILLED * scale.slack
    assert max(again, default=0.0) < _HANDED_BACK * scale.slack
    assert other >= 0.45 * scale.rate
    assert "in blocks" in log
    if how != "regex":
        assert told < _TOLD * scale.slack


@on("redis", soak=["rabbit"])
async def test_f14_cancellation_is_swallowed(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F14: a task catches every cancellation; its soft limit is 1 s, its hard limit 2 s.

    It is told at the soft limit, cancelled at the hard one, and declared lost when its grace is over. Then another
    child takes over within 3 s, while those beside it that end within the time to drain do so where they are.
    """
    scale = scale._replace(shutdown_timeout=scale.fault / 3)
    trial = Trial(tmp_path, scale, places, more={"kill_grace": _GRACE})
    async with trial:
        [host] = trial.fleet.hosts
        before = set(host.workers)
        async with trial.fault("swallowed"):
            culprit = await trial.app.send_task("chaos.swallows", soft_time_limit=_LIMIT / 2, time_limit=_LIMIT)
            await until(lambda: culprit.id in trial.ledger.ids("PERIL"))
            begun = time.monotonic()
            [victim] = {record.pid for record in trial.ledger.entries("PERIL")}
            drained = scale.shutdown_timeout
            short = [await trial.load.send(pause=_LIMIT + _GRACE + drained / 2) for _ in range(scale.concurrency // 2)]
            long = [await trial.load.send(pause=_LIMIT + _GRACE + 2 * drained) for _ in range(scale.concurrency // 4)]
            assert isinstance(await culprit.get(timeout=20, propagate=False), TimeLimitExceeded)
            declared = time.monotonic() - begun
            await until(lambda: first_start(trial.ledger.entries(), set(host.workers) - before) < math.inf)
            replaced = first_start(trial.ledger.entries(), set(host.workers) - before) - begun - declared
            await until(lambda: victim not in host.processes_left, timeout=60)
            gone = time.monotonic() - begun
            await until(lambda: trial.ledger.ids("STORED") >= {*short, *long}, timeout=90)
        report = await trial.finish()
        runs = trial.ledger.runs("START")
        told = [(r.monotonic - begun, r.detail) for r in trial.ledger.entries("PERIL") if r.task_id == culprit.id][1:]
    again = [task_id for task_id in long if runs[task_id] > 1]
    figures(report, trial, declared=declared, replaced=replaced, gone=gone, again=len(again), cancelled=len(told) - 1)
    report.check(duplicates=len(again))
    assert [what for _, what in told] == ["SoftTimeLimitExceeded", *["CancelledError"] * (len(told) - 1)]
    assert 1 <= len(told) - 1 <= 3
    assert declared < _LIMIT + 2 + scale.slack - 1
    assert replaced < 3 * scale.slack
    assert gone < _LIMIT + _GRACE + drained + _GRACE + 1 * scale.slack
    assert {task_id: runs[task_id] for task_id in short} == dict.fromkeys(short, 1)
