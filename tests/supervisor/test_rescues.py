"""What the rescuer is told of a dead child, and how often."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.kit import Supervision, is_alive
from waiting import until

RUNNING, ACKNOWLEDGED, CONCLUDED = 1, 2, 3


async def test_what_was_under_way_is_told_and_suspected_when_a_child_crashes(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "segfault", "steady", rescuer={}) as supervised:
        bury: dict[str, Any] = (await supervised.happened("bury"))["command"]
    assert bury["node"] == f"play-1@{os.uname().nodename}"
    stages = {flight[5]: (flight[1], *flight[6:]) for flight in bury["flights"]}
    assert stages == {
        "running": (RUNNING, "shop.play", "celery", "tag-running"),
        "early": (ACKNOWLEDGED, "shop.play", "celery", "tag-early"),
        "concluded": (CONCLUDED, "shop.play", "celery", "tag-concluded"),
    }
    assert (bury["suspect"], bury["culprit"]) == (True, 0)
    assert "died: SIGSEGV" in supervised.log
    assert "under_way='1 running, 1 acknowledged, 1 concluded'" in supervised.log


async def test_a_task_that_ends_the_process_as_if_all_was_well_is_found_out(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "vanish", "steady", rescuer={}) as supervised:
        bury = (await supervised.happened("bury"))["command"]
        await supervised.happened("ready", 2)
    assert [flight[5] for flight in bury["flights"]] == ["running"]
    assert bury["suspect"]


async def test_a_task_that_ends_a_draining_process_is_found_out_too(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "vanish_when_told", rescuer={}) as supervised:
        await supervised.happened("ready")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
        (bury,) = supervised.entries("bury")
    assert [flight[5] for flight in bury["command"]["flights"]] == ["running"]
    assert bury["command"]["suspect"]


async def test_what_a_child_could_not_settle_is_handed_back_and_nobody_blamed(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "leave_something", rescuer={}) as supervised:
        await supervised.happened("ready")
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
        (bury,) = supervised.entries("bury")
    assert [flight[5] for flight in bury["command"]["flights"]] == ["interrupted"]
    assert (bury["command"]["suspect"], bury["command"]["culprit"]) == (False, 0)
    assert "ERROR" not in supervised.log


async def test_a_child_that_holds_nothing_in_its_table_is_buried_too(tmp_path: Path) -> None:
    """It may have received what it had not begun."""
    async with Supervision(tmp_path, "steady", rescuer={}) as supervised:
        os.kill((await supervised.happened("ready", 1))["pid"], signal.SIGKILL)
        bury = (await supervised.happened("bury"))["command"]
    assert bury["flights"] == []


@pytest.mark.parametrize("part", ["finish", "crash_at_start"])
async def test_who_ended_well_or_had_not_begun_needs_none(tmp_path: Path, part: str) -> None:
    async with Supervision(tmp_path, part, rescuer={}) as supervised:
        await supervised.ended()
    assert not supervised.entries(who="rescuer")


async def test_a_rescue_that_fails_is_tried_again(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "segfault", "steady", rescuer={"failures": 2}) as supervised:
        await supervised.happened("dismissed")
        second = await supervised.happened("ready", 2)
        await until(lambda: supervised.children() == [second["pid"]])
    told = [entry["event"] for entry in supervised.entries(who="rescuer")]
    assert told == ["started", "bury", "started", "bury", "started", "bury", "dismissed"]
    commands = [entry["command"] for entry in supervised.entries("bury")]
    assert commands[0] == commands[1] == commands[2]
    assert supervised.log.count("failed, trying again in") == 2


async def test_what_is_handed_back_does_not_wait_for_ever_for_what_is_said_of_it(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "segfault", "steady", rescuer={"failures": 4}) as supervised:
        await supervised.happened("dismissed")
    assert [entry["command"]["patient"] for entry in supervised.entries("bury")] == [True] * 4 + [False]


async def test_rescuers_come_two_at_a_time(tmp_path: Path) -> None:
    rescuer = {"failures": 4, "silent": True}
    async with Supervision(tmp_path, "steady", processes=4, rescuer=rescuer) as supervised:
        await supervised.happened("ready", times=4)
        for entry in supervised.entries("ready"):
            os.kill(entry["pid"], signal.SIGKILL)
        await supervised.happened("bury", times=2)
        await supervised.happened("ready", times=8)
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 1
    assert len(supervised.entries("started")) == 2


async def test_a_rescue_is_ended_before_the_supervisor_is(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", rescuer={"failures": 1}) as supervised:
        child = await supervised.happened("ready")
        os.kill(child["pid"], signal.SIGSTOP)
        supervised.signal(signal.SIGTERM)
        await supervised.said("SIGTERM: ")
        os.kill(child["pid"], signal.SIGKILL)
        assert await supervised.ended() == 0
    assert [entry["event"] for entry in supervised.entries(who="rescuer")][-1] == "dismissed"


async def test_a_rescue_that_takes_too_long_at_the_end_is_left_to_the_leases(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "deaf", rescuer={"failures": 1, "silent": True}) as supervised:
        child = await supervised.happened("ready")
        supervised.signal(signal.SIGTERM)
        await supervised.said("SIGTERM: ")
        os.kill(child["pid"], signal.SIGKILL)
        assert await supervised.ended() == 1
        await until(lambda: not is_alive(supervised.entries("started")[0]["pid"]))
    assert "No time to rescue the tasks of play-1@" in supervised.log


async def test_a_brief_larger_than_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    padding = "x" * 1_000_000
    async with Supervision(tmp_path, "segfault", "steady", rescuer={"padding_size": len(padding)}) as supervised:
        await supervised.happened("dismissed")
    assert supervised.entries("started")[0]["brief_size"] > len(padding)
