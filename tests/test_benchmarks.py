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
@pytest.mark.parametrize(("server", "last", "measures"), [("redis", "stored", 16), ("rabbitmq", "ignored", 10)])
def test_a_small_run_measures_everything(tmp_path: Path, server: str, last: str, measures: int) -> None:
    written = tmp_path / "figures.json"
    options = ["--on", server, "--rounds", "1", "--size", "0.01", "--json", str(written)]
    options += ["--only", "asyncq", "Celery threads"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"| drain, results {last}, tasks/s |" in done.stdout
    turns = json.loads(written.read_text())["turns"]
    assert turns.keys() == {"asyncq", "Celery threads"}
    for [figures] in turns.values():
        assert len(figures) == measures
        assert all(value >= 0 for value in figures.values())
