"""From the parsed command line to the supervisor: this process becomes it, so that what has imported typer is gone."""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from asyncq.cli._arguments import WorkerArguments

__all__ = ["interpreter_options", "supervise"]

#: Field of `sys.flags` -> the option that it counts.
_FLAGS = {
    "bytes_warning": "-b",
    "debug": "-d",
    "dont_write_bytecode": "-B",
    "ignore_environment": "-E",
    "isolated": "-I",
    "no_site": "-S",
    "no_user_site": "-s",
    "optimize": "-O",
    "quiet": "-q",
    "safe_path": "-P",
    "verbose": "-v",
}


def supervise(arguments: WorkerArguments, *, processes: int, reload: bool) -> NoReturn:
    """Become the supervisor of so many worker processes. Raises OSError."""
    python = [sys.executable, *interpreter_options()]
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


def interpreter_options() -> list[str]:
    """The options of this interpreter (`-W`, `-X`, `-O` …), for those that follow.

    `-m` would put the current folder before the standard library. There a user's `queue.py` or `signal.py` would be in
    the way, so it stays out until the app is looked for, unless it is where this very command came from.
    """
    options = [option for flag, option in _FLAGS.items() for _ in range(getattr(sys.flags, flag))]
    options += [f"-W{rule}" for rule in sys.warnoptions]
    given = sys._xoptions  # pyright: ignore[reportPrivateUsage] - documented under this name
    options += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in given.items()]
    if "-P" not in options and sys.path[0] not in ("", os.getcwd()):  # noqa: PTH109 - text, as in the path
        options.append("-P")
    return options
