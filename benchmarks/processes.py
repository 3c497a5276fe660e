"""The programs of a run but its server: the clients, the workers; and what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .apps.environment import variables
from .contenders import Contender, command
from .servers import Server
from .workflows import Workflow

#: Seconds that anything may take before the run fails.
_PATIENCE = 60.0

_TICK = os.sysconf("SC_CLK_TCK")


class Worker:
    """A worker's processes. Enter it with the queue filled: it starts to drain at once."""

    def __init__(
        self, contender: Contender, server: Server, *, results: bool, cores: Collection[int] | None = None
    ) -> None:
        """`cores` are those that it may run on; all of them by default."""
        self._cores = cores
        self._contender = contender
        self._server = server
        self._results = results
        self.marks = Path(tempfile.mkdtemp(prefix="asyncq-benchmark-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = variables(self._server.url, results=self._results, marks=self.marks)
        with (self.marks / "log").open("wb") as log:
            self._process = subprocess.Popen(command(self._contender), env=environment, stdout=log, stderr=log)
        if self._cores is not None:  # before it has made threads and children, which inherit it
            os.sched_setaffinity(self._process.pid, self._cores)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        family = list(_family(self._process.pid))
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in family:
                _kill(pid)
            self._process.wait()
        shutil.rmtree(self.marks)

    def await_mark(self, name: str, *, patience: float = _PATIENCE) -> float:
        """Wait until the worker has run a mark; return when that was."""
        assert self._process is not None
        deadline = time.perf_counter() + patience
        while not (self.marks / name).exists():
            if self._process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"{self._contender.name}: no {name}\n{(self.marks / 'log').read_text()[-2000:]}")
            time.sleep(0.002)
        return float((self.marks / name).read_text())

    def cpu(self) -> float:
        """Seconds of processor time of all its processes so far."""
        assert self._process is not None
        return sum(map(cpu, _family(self._process.pid)))

    def memory(self) -> float:
        """MiB in use by all its processes; what they share counts once."""
        assert self._process is not None
        return sum(map(_memory, _family(self._process.pid)))

    def peak(self) -> float:
        """MiB that all its processes have had at their worst; what they share counts for each."""
        assert self._process is not None
        return sum(map(_peak, _family(self._process.pid)))


class Client:
    """A client's process that sends workflows."""

    def __init__(self, contender: Contender, server: Server) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.client", contender.sender, "workflows"],
            env=variables(server.url, results=True, marks=Path(tempfile.gettempdir())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        #: MiB that it has had at its worst.
        self.peak = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        _, said = self._process.communicate()
        if error is not None:
            error.add_note(f"the client said: {said[-2000:]}")

    def send(self, workflow: Workflow) -> dict[str, float]:
        """Have it sent; return when that began and ended (`begun`, `ended`), and its processor time (`cpu`)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(workflow)), file=self._process.stdin, flush=True)
        told = json.loads(self._process.stdout.readline())
        self.peak = told.pop("peak") / 1024
        return told


def run_client(contender: Contender, server: Server, what: str, count: int, *, results: bool) -> dict[str, Any]:
    """Run a client to its end; return what it has measured."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client", contender.sender, what, str(count)],
        env=variables(server.url, results=results, marks=Path(tempfile.gettempdir())),
        check=True,
        capture_output=True,
        timeout=_PATIENCE,
    )
    return json.loads(done.stdout)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far; 0 where there is no /proc."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK if fields else 0.0


def _memory(pid: int) -> float:
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _peak(pid: int) -> float:
    return sum(int(line.split()[1]) for line in _read(pid, "status").splitlines() if line.startswith("VmHWM:")) / 1024


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _read(pid, f"task/{pid}/children").split():
        yield from _family(int(child))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # gone, or no Linux
        return ""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
