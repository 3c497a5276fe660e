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
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("server", "last", "measures"),
    [("redis", "stored", 16), pytest.param("rabbitmq", "ignored", 10, marks=pytest.mark.soak)],
)
def test_a_small_run_measures_everything(tmp_path: Path, server: str, last: str, measures: int) -> None:
    shown, turns = small_run(tmp_path, "--on", server)
    assert f"| drain, results {last}, tasks/s |" in shown
    assert {len(figures) for [figures] in turns.values()} == {measures}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_small_run_of_workflows_measures_each(tmp_path: Path) -> None:
    shown, turns = small_run(tmp_path, "canvas")
    assert "| chord of 10,000, tasks/s |" in shown
    assert "| chain of 100, ms/task |" in shown
    assert {len(figures) for [figures] in turns.values()} == {5 * 4 + 1}


def small_run(folder: Path, *options: str) -> tuple[str, dict[str, list[dict[str, float]]]]:
    """One round of asyncq and Celery; what it shows, and each contender's figures."""
    written = folder / "figures.json"
    more = ["--rounds", "1", "--size", "0.01", "--json", str(written), "--only", "asyncq", "Celery threads"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options, *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    turns = json.loads(written.read_text())["turns"]
    assert turns.keys() == {"asyncq", "Celery threads"}
    assert all(value >= 0 for [figures] in turns.values() for value in figures.values())
    return done.stdout, turns
