"""One process of a worker: `python -m asyncq.cli._child <json>`, started by the supervisor.

It knows no command line (typer stays out of it), and answers by its exit code: 0 ended as it was asked to, 2 the app or
its settings are wrong, 3 a server can't be reached, 1 anything else.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from typing import NoReturn

from asyncq.cli._arguments import ChildArguments
from asyncq.cli._failures import ExitCode, report
from asyncq.cli._serve import serve


def main() -> NoReturn:
    faulthandler.enable()
    # Asked for by the supervisor before it kills: what stood there, also while somebody holds the interpreter.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    arguments = ChildArguments.from_document(json.loads(sys.argv[1]))
    for descriptor in (arguments.flight_fd, arguments.control_fd):
        # They were meant for this process alone: the table shows passwords to any program that a task would start.
        os.set_inheritable(descriptor, False)
    try:
        serve(arguments)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - `report` raises again what has no name
        sys.exit(report(exc))
    sys.exit(ExitCode.OK)


if __name__ == "__main__":
    main()
