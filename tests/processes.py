"""Programs that tests start, stop and kill."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from waiting import PATIENCE

_TESTS = Path(__file__).parent

#: Seconds until it is ready: a Celery worker alone imports for a second, and for twenty where all else is busy too.
_START = 45.0


class Program:
    """A module under `tests` that runs in a process of its own.

    It finds its configuration in `sys.argv[1]`, as JSON, and says `ready` on its standard output when it is. What it
    logs is shown when the test fails.
    """

    def __init__(
        self, module: str, config: Mapping[str, Any], *, strict: bool = True, descriptors: Sequence[int] = ()
    ) -> None:
        """`strict` makes its warnings errors; `descriptors` are its own as well, under the same numbers."""
        self._descriptors = descriptors
        self._command = [sys.executable, *(["-W", "error"] if strict else []), "-m", module, json.dumps(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """For tests on a loop, which must not stand still meanwhile: it may have leases to keep."""
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it is ready."""
        assert self._process is None
        path = [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            pass_fds=self._descriptors,
            start_new_session=True,
        )
        try:
            self._await_ready(self._process)
        except BaseException:
            self.close()
            raise

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        return self._end(None)

    def kill(self) -> None:
        """SIGKILL, to its children as well: those of a Celery worker would outlive it."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it still runs, and show its log."""
        if self._process is not None:
            self._end(signal.SIGKILL)
        if not self._log.closed:
            print(f"--- log of {' '.join(self._command[-2:])}\n{self._read_log()}")
            self._log.close()

    def _end(self, number: signal.Signals | None) -> int:
        assert self._process is not None
        process = self._process
        if number == signal.SIGKILL:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        elif number is not None:
            process.send_signal(number)
        code = process.wait(PATIENCE)
        self._process = None
        assert process.stdout is not None
        process.stdout.close()
        return code

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        deadline = time.monotonic() + _START
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"ready\n" not in said:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"not ready in time:\n{self._read_log()}")
                chunk = os.read(process.stdout.fileno(), 4096)
                if not chunk:
                    raise RuntimeError(f"ended before it was ready:\n{self._read_log()}")
                said += chunk

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")
