"""Runs a command for as long as whoever started this lives: the tests' servers must not outlive a killed test run.

    python lifeline.py COMMAND…

The starter holds the write end of our standard input. The command is in a process group of its own, which is killed
when that input ends; its pid is our first line of output, and we end with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from contextlib import suppress

#: Seconds between two looks whether the command has ended.
_LOOK = 0.1


def main() -> None:
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True, close_fds=True
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, whose end we hear of
    print(process.pid, flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while process.poll() is None and not selector.select(_LOOK):
            pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
