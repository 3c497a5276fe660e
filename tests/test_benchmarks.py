"""The benchmarks run, and say what they measured; how fast anything is, no test asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_small_run_measures_everything(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    options = ["--rounds", "1", "--size", "0.01", "--only", "asyncq", "Celery threads", "--json", str(written)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| drain, results stored, tasks/s |" in done.stdout
    turns = json.loads(written.read_text())["turns"]
    assert turns.keys() == {"asyncq", "Celery threads"}
    for [figures] in turns.values():
        assert len(figures) == 14
        assert all(value >= 0 for value in figures.values())
