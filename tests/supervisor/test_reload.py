"""Edited sources."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncq.supervisor._reload import SourceWatch
from supervisor.kit import Supervision


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def touch(path: Path) -> None:
    """A change that no file system is too coarse for."""
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda folder: touch(folder / "a.py"), ["a.py"]),
        (lambda folder: (folder / "deep" / "er" / "b.py").unlink(), ["deep/er/b.py"]),
        (lambda folder: make(folder, "new.py", "deep/new.py"), ["deep/new.py", "new.py"]),
        (lambda folder: make(folder, "notes.txt"), []),
        (lambda folder: make(folder, ".hidden/a.py", ".a.py", "__pycache__/a.py", "node_modules/a.py"), []),
        (lambda folder: make(folder, "env/pyvenv.cfg", "env/lib/a.py"), []),
        (lambda folder: (folder / "loop").symlink_to(folder), []),
    ],
    ids=["changed", "removed", "new", "no source", "skipped", "a virtual environment", "a loop"],
)
def test_what_counts_as_a_change(tmp_path: Path, change: Callable[[Path], object], names: list[str]) -> None:
    make(tmp_path, "a.py", "deep/er/b.py")
    watch = SourceWatch(str(tmp_path))
    assert watch.changes() == []
    change(tmp_path)
    assert watch.changes() == names
    assert watch.changes() == []


def test_a_folder_that_is_gone_has_no_files(tmp_path: Path) -> None:
    make(tmp_path, "deep/a.py")
    watch = SourceWatch(str(tmp_path / "deep"))
    (tmp_path / "deep" / "a.py").unlink()
    (tmp_path / "deep").rmdir()
    assert watch.changes() == ["a.py"]


async def test_a_change_lets_children_drain_and_starts_others(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first")
    async with Supervision(tmp_path, "read_source", processes=2, reload=True) as supervised:
        await supervised.happened("ready", times=2)
        source.write_text("second")
        await supervised.happened("told T", times=2)
        await supervised.happened("read second", times=2)
        assert "shop.py changed" in supervised.log
        await supervised.happened("ready", times=4)
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0


async def test_what_can_not_be_imported_waits_for_the_next_change(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text("wrong")
    async with Supervision(tmp_path, "read_source", reload=True) as supervised:
        await supervised.said("Waiting for a change")
        source.write_text("right")
        await supervised.happened("read right")
        await supervised.happened("ready")
        source.write_text("wrong")
        await supervised.said("Waiting for a change", times=2)
        supervised.signal(signal.SIGTERM)
        assert await supervised.ended() == 0
    assert len(supervised.entries("read ")) == 3


async def test_without_the_option_a_change_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text("first")
    async with Supervision(tmp_path, "read_source") as supervised:
        first = await supervised.happened("ready")
        source.write_text("second")
        os.kill(first["pid"], signal.SIGKILL)
        await supervised.happened("read second", 2)
    assert not supervised.entries("told")
