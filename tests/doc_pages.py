"""Runs a page of the docs as its reader would, block by block, in the current folder: `python doc_pages.py PAGE`.

What the word behind a fence means:

* `python`: run, in one namespace a page; a bare `await` is allowed, and an `assert` is a test.
* `python file=shop.py`: written to that file, for the blocks after it.
* `python fragment`: only has to be Python.
* `console`: the lines that begin with `$ ` are run in a shell. What stands below each must be what it prints
  (stdout and stderr); `...` stands for anything.
* `console background`: one command that runs beside the rest of the page. It gets SIGTERM at the end, and must
  exit with 0.
* any other language: not run.

`redis://localhost:6379` is replaced by the value of `DOCS_REDIS_URL`.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
REDIS_ADDRESS = "redis://localhost:6379"
COMMAND_TIMEOUT = 30


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    #: Line of the opening fence, from 1.
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        yield Block(page, text.count("\n", 0, match.start()) + 1, language, tuple(words), match["text"])


class Reader:
    """Follows a page."""

    def __init__(self, loop: asyncio.Runner) -> None:
        self._loop = loop
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module
        self._background: list[tuple[Block, str, subprocess.Popen[str]]] = []

    def read(self, page: Path) -> None:
        try:
            for block in blocks(page):
                self._follow(block)
            self._stop_background()
        finally:
            for block, _, process in self._background:
                if process.poll() is None:  # after a failure: what it said may tell why
                    process.kill()
                    output, _ = process.communicate()
                    print(f"-- {block} printed:\n{output}", file=sys.stderr)

    def _follow(self, block: Block) -> None:
        text = block.text.replace(REDIS_ADDRESS, os.environ.get("DOCS_REDIS_URL", REDIS_ADDRESS))
        if block.file is not None:
            Path(block.file).write_text(text)
        elif block.language == "python":
            self._execute(block, text)
        elif block.language == "console" and "background" in block.words:
            command, expected = next(commands(text))
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._background.append((block, expected, process))
        elif block.language == "console":
            for command, expected in commands(text):
                compare(block, command, expected, run(command))

    def _execute(self, block: Block, text: str) -> None:
        # The empty lines above make a traceback name the page's own line.
        source = "\n" * block.line + text
        code = compile(source, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if "fragment" in block.words:
            return
        outcome = eval(code, vars(self._module))
        if inspect.iscoroutine(outcome):
            self._loop.run(outcome)

    def _stop_background(self) -> None:
        for block, expected, process in self._background:
            process.terminate()
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT)
            if process.returncode != 0:
                raise AssertionError(f"{block}: exit code {process.returncode}\n{output}")
            compare(block, "the background command", expected, output)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command with what stands below it. A backslash at a line's end goes on with the command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield command, expected


def run(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    return done.stdout


def compare(block: Block, command: str, expected: str, output: str) -> None:
    checker = doctest.OutputChecker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not checker.check_output(_plain(expected), _plain(output), flags):
        raise AssertionError(f"{block}: $ {command}\n-- expected:\n{expected}\n-- printed:\n{output}")


def _plain(text: str) -> str:
    """Tables are as wide as what stands in them: late in the evening a date an hour ahead has a day."""
    return re.sub("─+", "─", text.strip()) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    with asyncio.Runner() as loop:
        Reader(loop).read(Path(sys.argv[1]))
