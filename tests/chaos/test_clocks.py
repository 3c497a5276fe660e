"""Wall clocks that jump."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.clock import WallClock
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from waiting import until

_HOUR, _DAY = 3600.0, 86400.0

#: Seconds of a soft limit and of a retry's countdown; by how much both may be missed, and what a busy machine adds.
_LASTING, _TOLERANCE, _BUSY = 1.0, 0.1, 0.25


@on("redis", soak=["sqlite"])
async def test_f10_the_wall_clock_jumps(tmp_path: Path, scale: Scale, places: Places, figures: Figures) -> None:
    """F10: the workers' wall clock jumps by an hour and by a day, on and back, in the midst of everything.

    Soft limits take the time that they always take, 10 % more or less; no lease ends too early, none lasts too long;
    what has an ETA begins once.
    """
    # How long a result is kept is a date as well: what was stored on the day before is not to be gone already.
    trial = Trial(tmp_path, scale, places, more={"result_expires": 10 * _DAY})
    clock = WallClock(trial.ledger.path)
    async with trial:
        dated, limited = list[str](), list[str]()
        for jump in (_HOUR, -_HOUR, _DAY, -_DAY):
            dated.append((await trial.app.send_task("chaos.passes", countdown=scale.fault / 8)).id)
            limited.append((await trial.app.send_task("chaos.overstays")).id)
            await asyncio.sleep(scale.fault / 16)
            clock.jump(jump)
            limited.append((await trial.app.send_task("chaos.overstays")).id)
            await asyncio.sleep(scale.fault / 4)
        clock.jump(0)
        # An ETA is by the wall clock: while that is set back, it has not come.
        await until(lambda: trial.ledger.ids("PERIL") >= {*dated, *limited})
        report = await trial.finish()
    times = {task_id: [r.monotonic for r in report.records if r.task_id == task_id] for task_id in (*dated, *limited)}
    lasted = [times[task_id][-1] - times[task_id][0] for task_id in limited]
    figures(report, trial, shortest=min(lasted), longest=max(lasted))
    report.check(duplicates=0)
    assert lasted == pytest.approx([_LASTING] * len(lasted), rel=_TOLERANCE, abs=_BUSY)
    assert [len(times[task_id]) for task_id in dated] == [1] * len(dated)


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(_HOUR, id="on"),
        pytest.param(-_HOUR, id="back"),
    ],
)
@on("redis", "sqlite")
async def test_f10_a_retry_of_a_worker_whose_clock_is_wrong(
    tmp_path: Path, scale: Scale, places: Places, jump: float, request: pytest.FixtureRequest
) -> None:
    """F10: a countdown is as long as it always is, however wrong the clock of the worker that counts."""
    if jump > 0 and places.broker.startswith("redis"):
        # What is parked on Redis is told by the server's clock, and when it is due by the worker's.
        request.applymarker(pytest.mark.xfail(raises=TimeoutError, strict=True, reason="it comes late by the jump"))
    trial = Trial(tmp_path, scale._replace(rate=1), places)
    clock = WallClock(trial.ledger.path)
    async with trial:
        clock.jump(jump)
        sent = await trial.app.send_task("chaos.tries_again", [_LASTING])
        await until(lambda: trial.ledger.runs("PERIL")[sent.id] == 2, timeout=4 * _LASTING)
        begun, again = (record.monotonic for record in trial.ledger.entries("PERIL"))
    assert again - begun == pytest.approx(_LASTING, rel=_TOLERANCE, abs=_BUSY)
