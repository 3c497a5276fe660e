"""Signals to the supervisor, its own death, and children that don't listen."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from supervisor.kit import Supervision, is_alive
from waiting import until

SHORT = {"shutdown_timeout": 0.3, "kill_grace": 0.3}
LONG = {"shutdown_timeout": 3600.0, "kill_grace": 0.3}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_lets_the_children_drain(tmp_path: Path, number: signal.Signals) -> None:
    async with Supervision(tmp_path, "steady", processes=2) as supervised:
        await supervised.happened("ready", times=2)
        supervised.signal(number)
        assert await supervised.ended() == 0
    assert len(supervised.entries("told T")) == 2
    assert f"{number.name}: taking nothing new" in supervised.log


@pytest.mark.parametrize(
    ("number", "environment"), [(signal.SIGQUIT, {}), (signal.SIGTERM, {"REMAP_SIGTERM": "SIGQUIT"})], ids=str
)
async def test_some_signals_do_not_wait(tmp_path: Path, number: signal.Signals, environment: dict[str, str]) -> None:
    async with Supervision(tmp_path, "steady", environment=environment) as supervised:
        await supervised.happened("ready")
        supervised.signal(number)
        assert await supervised.ended() == 0
    assert supervised.entries("told N")


@pytest.mark.parametrize(("timeouts", "signals"), [(SHORT, ["SIGTERM"]), (LONG, ["SIGTERM", "SIGINT"])], ids=str)
async def test_who_does_not_listen_is_killed_and_nobody_blamed(
    tmp_path: Path, timeouts: dict[str, float], signals: Sequence[str]
) -> None:
    async with Supervision(tmp_path, "deaf", timeouts=timeouts, rescuer={}) as supervised:
        child = await supervised.happened("ready")
        for name in signals:
            supervised.signal(signal.Signals[name])
            await supervised.said(f"{name}: ")
        assert await supervised.ended() == 0
        assert not is_alive(child["pid"])
    (bury,) = supervised.entries("bury")
    assert [flight[5] for flight in bury["command"]["flights"]] == ["held"]
    assert (bury["command"]["suspect"], bury["command"]["culprit"]) == (False, 0)


async def test_the_rescuer_is_there_when_time_runs_out_and_goes_when_all_ends_well(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", timeouts=SHORT, rescuer={}) as supervised:
        await supervised.happened("ready")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert [entry["event"] for entry in supervised.entries(who="rescuer")] == ["started", "dismissed"]


async def test_a_child_that_still_imports_ends_at_once(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "silent_start") as supervised:
        await supervised.happened("importing")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert " died: " not in supervised.log


async def test_who_is_killed_while_it_starts_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "start_for_ever", timeouts=SHORT, rescuer={}) as supervised:
        await supervised.happened("starting")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert [entry["event"] for entry in supervised.entries(who="rescuer")] == ["started", "dismissed"]
    assert "does not end in time" in supervised.log
    assert "ERROR" not in supervised.log


async def test_nothing_is_started_after_the_signal(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", "wear_out", processes=2, timeouts=SHORT) as supervised:
        await supervised.happened("ready", times=3)  # the third: in place of the second
        os.kill(supervised.entries("ready", 1)[0]["pid"], signal.SIGSTOP)
        supervised.signal(signal.SIGTERM)
        await supervised.said("SIGTERM: ")
        os.kill(supervised.entries("ready", 1)[0]["pid"], signal.SIGKILL)
        assert await supervised.ended() == 0
    assert len(supervised.entries("ready")) == 3


async def test_when_the_supervisor_is_killed_its_children_hear_of_it(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", processes=2) as supervised:
        await supervised.happened("ready", times=2)
        pids = supervised.children()
        supervised.signal(signal.SIGKILL)
        await supervised.happened("left alone", times=2)
        await until(lambda: not any(is_alive(pid) for pid in pids))
