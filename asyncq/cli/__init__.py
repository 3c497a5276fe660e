"""The command line `asyncq …`: it parses, hands the work to the library, and prints.

One command a module. What only some commands need is imported inside them, so that `asyncq --help` and a completion in
the shell don't wait for pydantic or a server's client. A worker's processes are modules of this package too, and know
nothing of commands: importing it imports none.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line, and exit: 0 done, 1 failed, 2 wrong usage, 3 server unreachable, 4 no result yet."""
    from asyncq.cli._main import main as run

    run()
