"""The ledger: whole records, from many processes, whatever becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chaos.ledger import Ledger
from waiting import until

_WRITER = """
import sys
from chaos.ledger import Ledger
ledger = Ledger(sys.argv[1])
while True:
    ledger.write("END", "0" * 36, "success 01234567", attempt=2, tag="some/tag", generation=7)
"""


def test_a_record_tells_who_did_what_when(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    before = time.monotonic(), time.time()
    ledger.write("END", "some-id", "success 42", attempt=1, tag="one/2", generation=3)

    [record] = Ledger(tmp_path / "ledger").entries()

    assert (record.kind, record.task_id, record.detail) == ("END", "some-id", "success 42")
    assert (record.attempt, record.pid, record.generation) == (1, os.getpid(), 3)
    assert record.tag != "-"
    assert before[0] <= record.monotonic <= time.monotonic()
    assert before[1] - 0.001 <= record.wall <= time.time()


def test_a_record_that_could_be_torn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Ledger(tmp_path / "ledger").write("END", "x" * 100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def writers(path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that write as fast as they can."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    yield writers
    kill(writers)


def kill(writers: Sequence[subprocess.Popen[bytes]]) -> None:
    for writer in writers:
        writer.kill()
        writer.wait()


def lines_in(path: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in path.iterdir())


async def test_what_killed_writers_wrote_is_whole(path: Path, writers: list[subprocess.Popen[bytes]]) -> None:
    await until(lambda: len(sizes := [file.stat().st_size for file in path.glob("*")]) == 2 and min(sizes) > 100_000)
    kill(writers)

    ledger = Ledger(path)
    records = ledger.entries()

    assert {(r.task_id, r.detail, r.attempt, r.generation) for r in records} == {("0" * 36, "success 01234567", 2, 7)}
    assert [record.monotonic for record in records] == sorted(record.monotonic for record in records)
    assert len(records) == lines_in(path)
