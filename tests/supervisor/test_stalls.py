"""Loops that stand still: who is killed, who is convicted before it, and who is let alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from supervisor.kit import Supervision, is_alive, state_of
from waiting import until

QUICK = {"stall_timeout": 1.5, "kill_grace": 0.2}


async def test_a_task_that_holds_the_loop_is_convicted_before_its_child_is_killed(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "block", "steady", timeouts={"kill_grace": 0.2}, rescuer={}) as supervised:
        child = await supervised.happened("ready", 1)
        await supervised.happened("ready", 2)
        await supervised.happened("dismissed")
        assert not is_alive(child["pid"])
    started, convict, bury, dismissed = supervised.entries(who="rescuer")
    assert [started["event"], dismissed["event"]] == ["started", "dismissed"]
    assert convict["child_lives"]
    assert convict["command"] | {"reason": ""} == {"do": "convict", "task_id": "culprit", "reason": "", "limit": 0.5}
    assert "time limit of 0.5 s" in convict["command"]["reason"]
    assert not bury["child_lives"]
    assert [flight[5] for flight in bury["command"]["flights"]] == ["neighbour", "culprit"]
    assert (bury["command"]["suspect"], bury["command"]["culprit"]) == (False, 2)
    log = supervised.log
    assert "shop.play[culprit] blocks the event loop" in log
    assert log.index("blocks the event loop") < log.index("in block") < log.index("was killed")


async def test_where_no_task_is_to_blame_all_are_suspects(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "stand_still", "steady", timeouts=QUICK, rescuer={}) as supervised:
        bury = (await supervised.happened("bury"))["command"]
        await supervised.happened("ready", 2)
    assert not supervised.entries("convict")
    assert (bury["suspect"], bury["culprit"]) == (True, 0)


async def test_nobody_is_convicted_where_a_thread_may_have_stopped_the_loop(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "hold_interpreter", "steady", timeouts=QUICK, rescuer={}) as supervised:
        bury = (await supervised.happened("bury"))["command"]
    assert not supervised.entries("convict")
    assert [flight[5] for flight in bury["flights"]] == ["guilty", "innocent"]
    assert (bury["suspect"], bury["culprit"]) == (True, 0)


async def test_a_conviction_that_fails_is_no_reprieve_and_is_made_up_for(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "block", "steady", timeouts=QUICK, rescuer={"failures": 2}) as supervised:
        await supervised.happened("dismissed")
    told = [entry["event"] for entry in supervised.entries(who="rescuer")]
    assert told == ["started", "convict", "started", "convict", "started", "convict", "bury", "dismissed"]


async def test_who_can_not_be_convicted_is_a_suspect_with_all_others(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "block", "steady", timeouts=QUICK, rescuer={"failures": 4}) as supervised:
        await supervised.happened("dismissed")
    assert len(supervised.entries("convict")) == 4
    (bury,) = supervised.entries("bury")
    assert (bury["command"]["suspect"], bury["command"]["culprit"]) == (True, 2)
    assert "Task culprit could not be convicted: the store is away" in supervised.log


async def test_a_store_that_does_not_answer_is_waited_for_in_bounded_time(tmp_path: Path) -> None:
    rescuer = {"failures": 1, "silent": True}
    async with Supervision(tmp_path, "block", "steady", timeouts=QUICK, rescuer=rescuer) as supervised:
        child = await supervised.happened("ready", 1)
        convict = await supervised.happened("convict")
        assert convict["child_lives"]
        await until(lambda: not is_alive(child["pid"]))


async def test_a_start_that_never_ends_is_ended(tmp_path: Path) -> None:
    timeouts = {"stall_timeout": 0.15}
    async with Supervision(tmp_path, "stick_at_start", "steady", timeouts=timeouts, rescuer={}) as supervised:
        child = await supervised.happened("starting")
        await supervised.happened("ready", 2)
        assert not is_alive(child["pid"])
    assert not supervised.entries("bury")


async def test_a_short_stall_starts_the_rescuer_and_nothing_else(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "stagger", timeouts={"stall_timeout": 4.5}, rescuer={}) as supervised:
        await supervised.happened("went on")
        await supervised.happened("dismissed")
        assert [entry["event"] for entry in supervised.entries(who="rescuer")] == ["started", "dismissed"]
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0


async def test_a_convicted_task_is_no_crash_loop(tmp_path: Path) -> None:
    parts = ["block"] * 5
    async with Supervision(tmp_path, *parts, "steady", processes=5, timeouts=QUICK, rescuer={}) as supervised:
        await supervised.happened("ready", times=10)
        await supervised.happened("dismissed", times=5)
        assert supervised.process.poll() is None


async def test_a_stopped_child_is_not_judged_before_it_goes_on(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", "stand_still", "steady", processes=2, timeouts=QUICK) as supervised:
        stopped = await supervised.happened("ready", 1)
        os.kill(stopped["pid"], signal.SIGSTOP)
        await supervised.said("was stopped by a signal")
        # The other one's end shows that there was time enough for a verdict.
        other = await supervised.happened("ready", 2)
        await until(lambda: not is_alive(other["pid"]))
        assert state_of(stopped["pid"]) == "T"
        os.kill(stopped["pid"], signal.SIGCONT)
        await supervised.said("goes on")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert supervised.entries("told T", 1)


async def test_a_supervisor_that_was_away_judges_nobody_by_that_time(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "doze", timeouts={"stall_timeout": 3.0}) as supervised:
        child = await supervised.happened("ready")
        await supervised.said("Ready")
        supervised.signal(signal.SIGSTOP)
        (tmp_path / "doze").touch()
        await supervised.happened("dozes")
        back = time.monotonic() + 3.5
        await until(lambda: time.monotonic() > back)
        supervised.signal(signal.SIGCONT)
        await supervised.said("The supervisor was away")
        (tmp_path / "doze").unlink()
        await supervised.happened("wakes")
        assert "stands still" not in supervised.log
        # That it can be judged again shows that it could have been.
        (tmp_path / "doze").touch()
        await until(lambda: not is_alive(child["pid"]))
        assert supervised.log.count("stands still") == 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_the_others_go_on(tmp_path: Path, number: signal.Signals) -> None:
    async with Supervision(tmp_path, "steady", processes=2) as supervised:
        first = await supervised.happened("ready", 1)
        second = await supervised.happened("ready", 2)
        os.kill(first["pid"], number)
        await supervised.said("play-1@", times=2)
        assert is_alive(second["pid"])
