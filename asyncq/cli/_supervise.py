"""From the parsed command line to the supervisor: this process becomes it, so that what has imported typer is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NoReturn, cast

from asyncq.cli._arguments import WorkerArguments

__all__ = ["supervise"]


def supervise(arguments: WorkerArguments, *, processes: int, reload: bool) -> NoReturn:
    """Become the supervisor of so many worker processes. Raises OSError."""
    python = [sys.executable, *_interpreter_options()]
    config = {
        "child": arguments.to_document(),
        "name": arguments.name,
        "processes": processes,
        "log_level": arguments.log_level,
        "log_format": arguments.log_format,
        "reload": reload,
        "python": python,
    }
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*python, "-m", "asyncq.supervisor", json.dumps(config)])  # noqa: S606 - ourselves


def _interpreter_options() -> list[str]:
    """The options of this interpreter (`-W`, `-X`, `-O` …), for those that follow.

    `-m` would put the current folder before the standard library. There a user's `queue.py` or `signal.py` would be in
    the way, so it stays out until the app is looked for, unless it is where this very command came from.
    """
    # Undocumented, but what multiprocessing asks when it starts an interpreter; nothing public tells all of them.
    given = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    options = cast("list[str]", given)
    if "-P" not in options and sys.path[0] not in ("", os.getcwd()):  # noqa: PTH109 - text, as in the path
        options.append("-P")
    return options
