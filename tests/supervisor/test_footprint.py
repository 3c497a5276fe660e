"""What the supervisor costs, and that it costs no more after a thousand restarts."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.kit import Supervision, state_of
from waiting import until


async def test_it_stays_small(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", processes=2) as supervised:
        await supervised.said("Ready: 2 processes")
        assert supervised.resident() < 20_000_000


def test_it_imports_the_standard_library_the_flight_table_and_the_log_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); import asyncq.supervisor.__main__; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.partition(".")[0] == "asyncq"}
    assert {name for name in ours if not name.startswith("asyncq.supervisor")} == {
        "asyncq",
        "asyncq._flight",
        "asyncq._logs",
        "asyncq._stop_signals",
    }
    assert {name.partition(".")[0] for name in loaded} <= {"asyncq", *sys.stdlib_module_names}
    # What takes long to import, and is of no use here.
    assert loaded & {"asyncio", "inspect", "typing_extensions", "multiprocessing", "concurrent.futures"} == set()


async def _restart(folder: Path, times: int) -> None:
    processes = 8
    (folder / "calm").mkdir()
    async with Supervision(folder / "calm", "steady", processes=processes) as supervised:
        await supervised.said("Ready: ")
        calm = supervised.descriptors()
    parts = ["crash_after_work", "wear_out_at_once"] * (times // 2)
    async with Supervision(folder, *parts, "steady", processes=processes) as supervised:
        await until(lambda: len(supervised.entries("ready")) == times + processes, timeout=0.5 * times)
        last = {entry["pid"] for entry in supervised.entries("ready") if entry["who"] > times}
        await until(lambda: set(supervised.children()) == last)
        assert not any(state_of(pid) == "Z" for pid in supervised.children())
        assert supervised.descriptors() == calm
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_200_restarts_leave_no_zombie_and_no_descriptor(tmp_path: Path) -> None:
    await _restart(tmp_path, 200)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_1000_restarts_leave_no_zombie_and_no_descriptor(tmp_path: Path) -> None:
    await _restart(tmp_path, 1000)
