"""Children that start, end, crash, wear out; and the supervisor's exit codes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.kit import Supervision, is_alive


async def test_it_runs_as_many_as_it_is_told_and_ends_with_them(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady", processes=3) as supervised:
        await supervised.said("Ready: 3 processes")
        pids = [entry["pid"] for entry in supervised.entries("ready")]
        assert sorted(supervised.children()) == sorted(pids)
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert len(supervised.entries("told T")) == 3
    assert not any(is_alive(pid) for pid in pids)


async def test_nothing_is_left_to_run_when_all_children_ended_by_themselves(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "finish", processes=2) as supervised:
        assert await supervised.ended() == 0
    assert len(supervised.entries("ready")) == 2


async def test_a_child_that_dies_is_followed_by_one_of_another_name(tmp_path: Path) -> None:
    async with Supervision(tmp_path, "steady") as supervised:
        first = await supervised.happened("ready", 1)
        os.kill(first["pid"], signal.SIGKILL)
        await supervised.happened("ready", 2)
        await supervised.said("play-1@")
        assert "died: SIGKILL" in supervised.log


@pytest.mark.parametrize("part", ["crash_at_start", "crash_fruitlessly", "vanish"])
async def test_five_deaths_before_any_task_ended_are_enough(tmp_path: Path, part: str) -> None:
    async with Supervision(tmp_path, part) as supervised:
        assert await supervised.ended() == 1
    assert supervised.log.count(" died: ") == 5
    assert "Giving up" in supervised.log
