"""The docs are true: their code runs, their links lead somewhere, and what they list is what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import doc_pages
from asyncq._call import SendOptions
from asyncq._declaration import DeclaredOptions
from asyncq._definition import TaskOptions
from asyncq._settings import CELERY_NAMES, Settings
from servers import RedisServer

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="session")
def redis() -> Generator[RedisServer]:
    with RedisServer(appendonly="yes") as server:
        yield server


@pytest.mark.timeout(180)  # a page may start thirty commands
@pytest.mark.parametrize("name", NAMES)
def test_the_code_runs_as_written(name: str, tmp_path: Path, redis: RedisServer) -> None:
    program = Path(doc_pages.__file__)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ASYNCQ_", "CELERY_", "REDIS_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ASYNCQ_HOME": str(tmp_path / "home"),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "DOCS_REDIS_URL": redis.url().rpartition("/")[0],
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


def test_the_architecture_names_files_that_exist() -> None:
    paths = {name for row in rows("architecture.md") for cell in row for name in named(cell)}
    roots = (ROOT, ROOT / "asyncq" / "worker")
    missing = {
        path for path in paths if path.endswith((".py", "/")) and not any((root / path).exists() for root in roots)
    }
    assert missing == set()


# -- tables that must say what the code says -----------------------------------------------------------------


def rows(name: str, heading: str | None = None) -> list[list[str]]:
    """The cells of the tables below a heading of level 2, or of the whole page, without the headings' rows."""
    text = (ROOT / "docs" / name).read_text()
    if heading is not None:
        (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set(row[0]) <= set("-: ")]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_stands_in_the_docs_with_its_default_and_its_celery_name() -> None:
    table = {named(row[0])[0]: row for row in rows("settings.md", "All of them") if named(row[0])}
    assert list(table) == [name for name in table if name in Settings.model_fields]
    assert set(table) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        default: Any = field.get_default(call_default_factory=True)
        _, text, celery, _ = table[name]
        assert named(celery) == [each for each in [CELERY_NAMES.get(name)] if each], name
        if isinstance(default, tuple) and len(default) == 1:
            default = default[0]
        if default not in (None, ()):
            assert named(text) == [str(default)], name
        else:
            assert not text.startswith("`"), name


def test_every_option_of_a_task_stands_in_the_docs() -> None:
    table = {named(row[0])[0]: row[1] for row in rows("tasks.md", "Options") if named(row[0])}
    assert set(table) == set(DeclaredOptions.__annotations__)
    for name in ("max_retries", "retry_backoff", "retry_backoff_max", "retry_jitter"):
        default = structs.asdict(TaskOptions())[name]
        assert table[name] == f"{default:g}" if isinstance(default, float) else str(default)


def test_every_option_of_a_call_stands_in_the_docs() -> None:
    assert {name for row in rows("tasks.md", "One call") for name in named(row[0])} == set(SendOptions.__annotations__)


COMMANDS = [
    "worker",
    "send",
    "result",
    "queues",
    "purge",
    "cancel",
    "scheduled list",
    "scheduled move",
    "dead list",
    "dead show",
    "dead replay",
    "dead drop",
    "check",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_stands_in_the_docs(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncq", *command.split(), "--help"],
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    offered = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", done.stdout.partition("Options")[2]))
    described = {name for row in rows("cli.md", f"asyncq {command}") for name in named(row[0])}
    assert described == offered - {"--help", "-h"}
