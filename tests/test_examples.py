"""The examples do what they say, and leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    foreign = ("ASYNCQ_", "CELERY_", "REDIS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, "ASYNCQ_HOME": str(home), "TMPDIR": str(home), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_quick_start(tmp_path: Path) -> None:
    done = run("examples/quickstart.py", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Hello, world!\nIt took 3 attempts\n"), done.stderr


@pytest.mark.slow
def test_the_demo_ends_well_and_leaves_no_process_and_no_file_behind(tmp_path: Path) -> None:
    done = run("-m", "examples.demo", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"pages\s+│\s+400 │\s+\d+ │\s+0 │", done.stdout)
    assert re.search(r"thumbnails\s+│\s+150 │\s+0 │\s+0 │", done.stdout)
    worker = re.search(r"Process (\d+) is the worker", done.stdout)
    assert worker is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker[1]), 0)
    assert list(tmp_path.iterdir()) == []
