"""F16: a store that gets full under load.

`python -m chaos.full_store {redis|sqlite} DISK FOLDER SCALE` does it with a disk: DISK is a small one that may be
filled up, FOLDER takes the ledger, SCALE is a `Scale` as a JSON list.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chaos.checker import Report
from chaos.places import Places
from chaos.scale import Scale
from chaos.trial import Trial
from servers import RedisServer


async def fill_under_load(trial: Trial, fill: Callable[[], object], free: Callable[[], object]) -> Report:
    """Let the store be full for a while. Some tasks that run then outlive their leases."""
    scale = trial.scale
    async with trial:
        await asyncio.gather(*(trial.load.send(pause=1.5 * scale.lease) for _ in range(scale.concurrency // 2)))
        async with trial.fault("full"):
            await asyncio.to_thread(fill)
            await trial.endure()
            await asyncio.to_thread(free)
        return await trial.finish()


def check_full_store(report: Report, *, duplicates: int = 0, unknown: bool = False) -> None:
    """`unknown`: nobody can tell what becomes of a send that was on its way when the store became full."""
    report.check(duplicates=duplicates, overlap=duplicates > 0)
    report.check_recovery()
    refusals = Counter(record.detail for record in report.records if record.kind == "NACK")
    assert refusals["BrokerFull"], refusals
    assert refusals.keys() <= {"BrokerFull", *(["BrokerConnectionError"] if unknown else [])}, refusals
    assert report.slowest_send < 5


class Filler:
    """A file that takes all the room that a disk has left."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self) -> None:
        # Opened at once: what comes in between takes no room away that even an empty file needs.
        with self._path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._path.unlink()


async def _redis(disk: Path, folder: Path, scale: Scale) -> str:
    # Not `always`: Redis ends itself then when a write fails.
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        assert server.folder.is_relative_to(disk)
        trial = Trial(folder, scale, Places(broker=server.url(), backend=server.url()))
        filler = Filler(disk)
        report = await fill_under_load(trial, filler.fill, filler.free)
    # Redis refuses to renew leases as well: who outlives one may run twice.
    check_full_store(report, duplicates=2 * 2 * scale.concurrency)
    return str(report)


async def _sqlite(disk: Path, folder: Path, scale: Scale) -> str:
    url = f"sqlite:///{disk}/queue.sqlite"
    filler = Filler(disk)
    report = await fill_under_load(Trial(folder, scale, Places(broker=url, backend=url)), filler.fill, filler.free)
    check_full_store(report)
    with contextlib.closing(sqlite3.connect(disk / "queue.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return str(report)


def main(kind: str, disk: str, folder: str, scale: str) -> None:
    experiment = {"redis": _redis, "sqlite": _sqlite}[kind]
    print(asyncio.run(experiment(Path(disk), Path(folder), Scale._make(json.loads(scale)))))


if __name__ == "__main__":
    os.umask(0o077)
    main(*sys.argv[1:])
