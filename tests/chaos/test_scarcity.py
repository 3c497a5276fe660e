"""Workers that run out of descriptors."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Collection
from pathlib import Path

from chaos.gauges import descriptors, processor_time
from chaos.places import Places
from chaos.proxy import Proxy
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from waiting import until

#: Descriptors that a process may have, how much more of a processor than before it may use while it gets none (one that
#: has kept a connection works on), and seconds until it works again when there are some.
_MOST, _BUSY, _BACK = 64, 0.2, 5.0


async def test_f17_descriptors_are_exhausted(
    tmp_path: Path, scale: Scale, places: Places, proxy: Proxy, figures: Figures
) -> None:
    """F17: tasks take all 64 descriptors of their processes and keep them, and the connections to the broker break.

    That is told; nothing turns idly; as soon as the tasks have ended everything goes on within 5 s.
    """
    trial = Trial(tmp_path, scale, places, broker=proxy.url, backend=proxy.url)
    async with trial:
        workers = trial.fleet.workers
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (_MOST, _MOST))
        usual = await _busy(workers, scale.before)
        greedy = set[str]()
        async with trial.fault("descriptors"):
            while trial.ledger.writers("PERIL").keys() < set(workers):
                greedy.add((await trial.app.send_task("chaos.hoards", [scale.fault])).id)
                await asyncio.sleep(0.1)
            await until(lambda: all(descriptors(pid) == _MOST for pid in workers))
            proxy.refuse()  # until the tasks have taken these descriptors as well
            proxy.reset()
            await until(lambda: not proxy.connections and all(descriptors(pid) == _MOST for pid in workers))
            proxy.heal()
            busy = await _busy(workers, scale.fault / 2)
            await until(lambda: all(descriptors(pid) < _MOST for pid in workers), timeout=4 * scale.fault)
        report = await trial.finish()
    figures(report, trial, usual=usual, busy=busy)
    report.check(duplicates=trial.in_flight)
    report.check_recovery(first=_BACK, detected=scale.fault, rate=None)
    assert busy < usual + _BUSY
    assert set(workers) == set(trial.final)


async def _busy(workers: Collection[int], seconds: float) -> float:
    """How much of a processor the busiest of these processes uses for so many seconds."""
    used = {pid: processor_time(pid) for pid in workers}
    await asyncio.sleep(seconds)
    return max(processor_time(pid) - before for pid, before in used.items()) / seconds
