"""The docs are true: their code runs, their links lead somewhere, and what they list is what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import doc_pages

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("name", NAMES)
def test_the_code_runs_as_written(name: str, tmp_path: Path) -> None:
    program = Path(doc_pages.__file__)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ASYNCQ_", "CELERY_", "REDIS_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ASYNCQ_HOME": str(tmp_path / "home"),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        [sys.executable, program, str(ROOT / name)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def anchors(page: Path) -> set[str]:
    """The anchors that a reader's browser makes of the headings."""
    text = doc_pages.FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = doc_pages.FENCE.sub("", page.read_text())
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue  # another site: not ours to try from a test
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []
