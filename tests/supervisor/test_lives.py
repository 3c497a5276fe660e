"""Children that start, end, crash and wear out; and the supervisor's exit codes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.kit import Supervision, is_alive
from waiting import until


async def test_it_runs_as_many_as_it_is_told(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", processes=3) as supervised:
        await supervised.said("Ready: 3 processes")
        await supervised.happened("ready", times=3)
        pids = [entry["pid"] for entry in supervised.entries("ready")]
        assert sorted(supervised.children()) == sorted(pids)
        assert [os.getpgid(pid) for pid in pids] == pids


async def test_it_ends_when_all_children_have_ended_by_themselves(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "finish", "steady", "finish", processes=3) as supervised:
        await supervised.said("has ended", times=2)
        assert supervised.children() == [(await supervised.happened("ready", 2))["pid"]]
    async with Supervision(tmp_path, "finish", processes=2) as supervised:
        assert await supervised.ended() == 0


async def test_a_child_that_dies_is_followed_by_one_of_another_name(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady") as supervised:
        first = await supervised.happened("ready", 1)
        await supervised.said("Ready: ")
        os.kill(first["pid"], signal.SIGKILL)
        await supervised.said(f"play-2@{os.uname().nodename} is ready")
        assert f"play-1@{os.uname().nodename} died: SIGKILL" in supervised.log


@pytest.mark.parametrize("part", ["crash_at_start", "crash_fruitlessly", "vanish"])
async def test_five_deaths_before_any_task_ended_are_enough(tmp_path: Path, part: str) -> None:
    async with Supervision(tmp_path, part) as supervised:
        assert await supervised.ended() == 1
    assert supervised.log.count(" died: ") == 5
    assert "Giving up: 5 processes were gone" in supervised.log


async def test_deaths_between_tasks_are_no_crash_loop(tmp_path: Path) -> None:
    parts = ["crash_fruitlessly"] * 4 + ["crash_after_work"] + ["crash_fruitlessly"] * 4
    async with Supervision(tmp_path, *parts, "steady") as supervised:
        await supervised.happened("ready", 10)
        assert supervised.process.poll() is None


async def test_giving_up_lets_the_others_drain(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", "crash_fruitlessly", processes=2) as supervised:
        assert await supervised.ended() == 1
    assert supervised.entries("told T", 1)


@pytest.mark.parametrize(("part", "code"), [("wrong_usage", 2), ("unreachable", 3)])
async def test_what_trying_again_does_not_mend_is_its_exit_code(tmp_path: Path, part: str, code: int) -> None:
    async with Supervision(tmp_path, part) as supervised:
        assert await supervised.ended() == code
    assert len(supervised.entries("begun")) == 1


async def test_a_server_that_was_there_once_is_waited_for(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "crash_after_work", "unreachable", "steady") as supervised:
        await supervised.happened("ready", 3)


async def test_a_program_that_does_not_exist_is_a_crash_loop(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", executable=str(tmp_path / "nothing")) as supervised:
        assert await supervised.ended() == 1
    assert supervised.log.count("No process could be started") == 5


async def test_a_worn_out_child_drains_while_another_works(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "wear_out", "steady") as supervised:
        old = await supervised.happened("ready", 1)
        new = await supervised.happened("ready", 2)
        assert sorted(supervised.children()) == sorted([old["pid"], new["pid"]])
        supervised.gate.touch()
        await until(lambda: supervised.children() == [new["pid"]])
        assert supervised.entries("drained", 1)
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert len(supervised.entries("ready")) == 2


async def test_a_child_that_wears_out_and_ends_at_once_is_replaced(tmp_path: Path) -> None:
    async with Supervision(tmp_path, *["wear_out_at_once"] * 7, "steady") as supervised:
        await supervised.happened("ready", 8)
        assert " died: " not in supervised.log


async def test_children_that_starting_alone_wears_out_are_a_crash_loop(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "wear_out_at_once", fruitful=False) as supervised:
        assert await supervised.ended() == 1


async def test_what_does_not_drain_in_time_is_killed_and_nobody_blamed(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "wear_out", "steady", drain=0.5, rescuer={}) as supervised:
        old = await supervised.happened("ready", 1)
        bury = (await supervised.happened("bury"))["command"]
        assert not is_alive(old["pid"])
        await supervised.happened("ready", 2)
    assert (bury["node"], bury["suspect"], bury["culprit"]) == (f"play-1@{os.uname().nodename}", False, 0)
    assert len(supervised.entries("ready")) == 2


async def test_what_a_dead_child_had_started_dies_with_it(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "have_offspring", "steady") as supervised:
        child = await supervised.happened("ready", 1)
        offspring = await supervised.happened("born")
        os.kill(child["pid"], signal.SIGKILL)
        await until(lambda: not is_alive(offspring["pid"]))
