"""Hosts that are told to stop, or lose their supervisor, in the midst of short tasks and of long ones."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import NamedTuple

from chaos.aftermath import begun_again, never_begun_again, unfinished
from chaos.checker import Report
from chaos.fleet import Host
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from waiting import until

#: Seconds: beyond the time-out, until a host is gone; until it is gone when it doesn't wait; from its end until what it
#: gave up is begun elsewhere; and after the signal, in which what it has just taken may still begin.
_GONE, _GONE_AT_ONCE, _ELSEWHERE, _TAKEN = 2.0, 1.0, 2.0, 0.1


class End(NamedTuple):
    """How a host ended."""

    report: Report
    #: What it had begun and did not finish, short tasks and long ones.
    short: set[str]
    long: set[str]
    exit_code: int
    #: Seconds from the last signal until nothing was left of it, from then until all that it gave up was begun
    #: elsewhere, and from the first signal until it began its last task.
    took: float
    elsewhere: float
    last_start: float


@on("redis", "rabbit", soak=["sqlite"])
async def test_f2_a_host_is_told_to_stop(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F2: SIGTERM, with a time-out of 10 s, while half the tasks last 3 s and half 60 s.

    It exits with 0 within 12 s; every short task ends there, every long one is handed back and begins elsewhere within
    2 s; nothing begins after the signal.
    """
    trial = _trial(tmp_path, scale, places)
    async with trial:
        host = await trial.fleet.add()
        end = await _end(trial, host, signal.SIGTERM)
    _tell(figures, trial, end)
    _check(trial, end, within=trial.scale.shutdown_timeout + _GONE)
    assert end.exit_code == 0
    assert not end.short


async def test_f2_a_second_signal(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F2: a second SIGTERM: it is gone within 1 s, and still nothing is lost."""
    trial = _trial(tmp_path, scale, places)
    async with trial:
        host = await trial.fleet.add()
        end = await _end(trial, host, signal.SIGTERM, signal.SIGTERM)
    _tell(figures, trial, end)
    _check(trial, end, within=_GONE_AT_ONCE)
    assert end.exit_code == 0


async def test_f2_a_remapped_signal(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F2: REMAP_SIGTERM=SIGQUIT has the first SIGTERM mean the second."""
    trial = _trial(tmp_path, scale, places)
    async with trial:
        host = await trial.fleet.add({"REMAP_SIGTERM": "SIGQUIT"})
        end = await _end(trial, host, signal.SIGTERM)
    _tell(figures, trial, end)
    _check(trial, end, within=_GONE_AT_ONCE)
    assert end.exit_code == 0


async def test_f2_threads_that_do_not_end(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F2: what sits in a thread can't be ended; it is handed back, and the host exits in time all the same."""
    trial = _trial(tmp_path, scale, places)
    async with trial:
        host = await trial.fleet.add()
        trial.load.task = "chaos.toil"
        end = await _end(trial, host, signal.SIGTERM)
    _tell(figures, trial, end)
    _check(trial, end, within=trial.scale.shutdown_timeout + _GONE)
    assert end.exit_code == 0
    assert not end.short


async def test_f2_the_supervisor_is_killed(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F2: SIGKILL for the supervisor alone: its children drain, and nothing is left when the time-out is over."""
    trial = _trial(tmp_path, scale, places)
    async with trial:
        host = await trial.fleet.add()
        end = await _end(trial, host, signal.SIGKILL)
    _tell(figures, trial, end)
    _check(trial, end, within=trial.scale.shutdown_timeout + 1)
    assert not end.short


def _trial(folder: Path, scale: Scale, places: Places) -> Trial:
    return Trial(folder, scale._replace(shutdown_timeout=scale.fault / 3), places)


async def _end(trial: Trial, host: Host, *signals: signal.Signals) -> End:
    """Give it tasks, half of them too long for any shutdown; send it these signals; see it gone, and compare.

    They are more than the other host has places for, and no more long ones than that.
    """
    scale, ledger = trial.scale, trial.ledger
    workers = set(host.workers)
    task, trial.load.task = trial.load.task, "chaos.work"
    await trial.load.stop()
    await trial.drain()
    trial.load.task = task
    async with trial.fault("stop"):
        short, long = set[str](), set[str]()
        kinds = [(short, scale.fault / 10), (long, 2.0 * scale.fault)] * (3 * scale.concurrency // 2)
        trial.dice.shuffle(kinds)  # in turn, a broker that serves its consumers in turn gives one of them no long one
        for kind, pause in kinds:
            kind.add(await trial.load.send(pause=pause))
        await until(lambda: ledger.ids("START") >= short | long)
        assert long & {record.task_id for record in ledger.entries("START") if record.pid in workers}
        first = last = time.monotonic()
        for number in signals:
            last = time.monotonic()
            host.send_signal(number)
            await asyncio.sleep(_TAKEN)
        await until(lambda: not host.processes_left, timeout=scale.shutdown_timeout + 5 * scale.slack)
        gone = time.monotonic()
        exit_code = await host.wait()
        trial.fleet.lose(host)
        await until(lambda: not never_begun_again(ledger.entries(), workers))
    trial.load.task = "chaos.work"
    report = await trial.finish()
    given_up = unfinished(report.records, workers)
    again = begun_again(report.records, workers, gone)
    starts = [record.monotonic for record in report.records if record.pid in workers and record.kind == "START"]
    return End(
        report=report,
        short=given_up & short,
        long=given_up & long,
        exit_code=exit_code,
        took=gone - last,
        elsewhere=max(again),
        last_start=max(starts) - first,
    )


def _tell(figures: Figures, trial: Trial, end: End) -> None:
    given_up = len(end.short) + len(end.long)
    figures(end.report, trial, took=end.took, given_up=given_up, elsewhere=end.elsewhere, last_start=end.last_start)


def _check(trial: Trial, end: End, *, within: float) -> None:
    """`within`: seconds from the last signal until nothing is left of the host, on a machine that is not busy."""
    slack = trial.scale.slack
    # Each long task runs to its end where it began again, and nothing else is there to end meanwhile.
    end.report.check(duplicates=len(end.short) + len(end.long), silence=2 * trial.scale.fault + 5)
    assert end.took < within + (slack - 1)
    assert end.elsewhere < _ELSEWHERE * slack
    assert end.last_start < _TAKEN * slack
