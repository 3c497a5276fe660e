"""The command itself: version, help, completion, and how fast it starts."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from asyncq.cli._main import _cli
from cli.kit import Shell

COMMANDS = ["worker", "send", "result", "queues", "purge", "cancel", "scheduled", "dead", "status", "control", "check"]
#: Those that have further words.
GROUPS = {
    "scheduled": ["list", "move"],
    "dead": ["list", "show", "replay", "drop"],
    "control": ["shutdown", "concurrency", "revoke"],
}


async def test_the_version(shell: Shell) -> None:
    assert (await shell.run("--version")).out == f"asyncq {version('asyncq')}\n"


async def test_help_lists_every_command(shell: Shell) -> None:
    done = await shell.run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert command in done.out


@pytest.mark.parametrize(
    "words",
    [[command, *word] for command in COMMANDS for word in ([[each] for each in GROUPS.get(command, [])] or [[]])],
    ids=" ".join,
)
def test_each_command_explains_itself(words: list[str]) -> None:
    done = CliRunner().invoke(_cli, [*words, "-h"])
    assert done.exit_code == 0
    assert "Where the AsyncQ is" in done.output


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("more", [[], ["-h"]], ids=["bare", "-h"])
def test_each_group_lists_its_commands(group: str, more: list[str]) -> None:
    done = CliRunner().invoke(_cli, [group, *more])
    for word in GROUPS[group]:
        assert f" {word} " in done.output


async def test_an_unknown_option_is_exit_code_2(shell: Shell) -> None:
    done = await shell.run("queues", "shop:queue", "--colour")
    assert done.code == 2
    assert "--colour" in done.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("asyncq wo", "worker"),
        ("asyncq worker --bu", "--burst"),
        ("asyncq scheduled mo", "move"),
        ("asyncq scheduled shop:queue --re", "--release"),
    ],
)
def test_the_shell_completes(shell: Shell, words: str, offered: str) -> None:
    environment = {"_ASYNCQ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "import sys; sys.argv = ['asyncq']; from asyncq.cli import main; main()"]
    done = subprocess.run(
        command, env={**shell.environment, **environment}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [offered]


def test_parsing_waits_for_nothing_that_only_running_needs() -> None:
    program = "import sys, asyncq.cli._main; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) & {"asyncio", "pydantic", "msgspec", "anyio", "redis", "sqlite3", "uvloop"} == set()
