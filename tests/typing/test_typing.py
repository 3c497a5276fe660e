"""What reaches a user's editor, proved by the type checkers themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SAMPLES = ("right.py", "unannotated.py", "wrong.py")


def marked(sample: str, *marks: str) -> set[int]:
    """Numbers of the lines that end in one of the marks."""
    lines = (HERE / sample).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith(tuple(f"# {mark}" for mark in marks))}


@pytest.fixture(scope="module")
def pyrights_errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    folder = tmp_path_factory.mktemp("pyright")
    config: dict[str, Any] = {
        "include": list(SAMPLES),
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT), str(ROOT / "brokers"), str(ROOT / "backends")],
    }
    for sample in SAMPLES:  # the configuration wants them in its own folder
        (folder / sample).write_text((HERE / sample).read_text())
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    errors: dict[str, set[int]] = {sample: set() for sample in SAMPLES}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(SAMPLES)
    for diagnostic in report["generalDiagnostics"]:
        line: int = diagnostic["range"]["start"]["line"] + 1
        errors[Path(diagnostic["file"]).name].add(line)
    return errors


@pytest.fixture(scope="module")
def mypys_errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    cache = tmp_path_factory.mktemp("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        f"--cache-dir={cache}",
        "--config-file=",
        *(str(HERE / sample) for sample in SAMPLES),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110, cwd=ROOT)
    errors: dict[str, set[int]] = {sample: set() for sample in SAMPLES}
    for file, line in re.findall(r"^(\S+?):(\d+): error:", done.stdout, re.MULTILINE):
        errors[Path(file).name].add(int(line))
    assert done.returncode in {0, 1}, done.stderr
    return errors


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sample", SAMPLES)
def test_pyright_finds_what_is_wrong_and_nothing_else(pyrights_errors: dict[str, set[int]], sample: str) -> None:
    assert pyrights_errors[sample] == marked(sample, "error", "error in pyright")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sample", SAMPLES)
def test_mypy_finds_what_is_wrong_and_nothing_else(mypys_errors: dict[str, set[int]], sample: str) -> None:
    assert mypys_errors[sample] == marked(sample, "error")


@pytest.mark.timeout(120)
def test_everything_that_is_public_has_a_known_type(tmp_path: Path) -> None:
    # In a folder of their own, since pyright takes an editable install for no package.
    for package in ("asyncq", "anyio", "msgspec", "pydantic", "pydantic_core", "pydantic_settings"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        (tmp_path / package).symlink_to(Path(spec.origin).parent)
    command = [sys.executable, "-m", "pyright", "--verifytypes", "asyncq", "--ignoreexternal", "--outputjson"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=110, cwd=tmp_path, env=environment
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    unknown = {
        symbol["name"]
        for symbol in symbols
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
        # The command line is no interface for programs; the suites are pytest's, which names no types.
        if not symbol["name"].startswith(("asyncq.cli", "asyncq.testing", "asyncq.__main__"))
    }
    assert len(symbols) > 100
    assert unknown == set()
