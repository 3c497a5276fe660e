"""Workers as their users run them: `asyncq worker` in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from chaos.app import Settings
from chaos.ledger import Ledger
from waiting import until

_TESTS = Path(__file__).parents[1]

#: Seconds until a worker must serve, and until it must have ended: machines are busy.
_START, _END = 45.0, 30.0


class Host:
    """One `asyncq worker` command and all that it starts: a host that may die as a whole."""

    def __init__(self, settings: Settings, options: Sequence[str], *, processes: int, log: Path) -> None:
        self.processes = processes
        self.log = log
        command = [sys.executable, "-m", "asyncq", "worker", "chaos.program:queue"]
        self._command = [*command, "--processes", str(processes), *options]
        self._settings = settings
        self._ledger = Ledger(settings.ledger)
        self._process: subprocess.Popen[bytes] | None = None
        #: Processes that served before this command was started.
        self._before: set[int] = set()

    @property
    def pid(self) -> int:
        """Of the command: of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Pids of the processes that serve at the moment, in the order of their start."""
        gone = self._ledger.writers("DOWN")
        started = [record.pid for record in self._ledger.entries("UP") if record.pid not in self._before]
        return [pid for pid in started if not gone[pid] and self._is_ours(pid)]

    @property
    def processes_left(self) -> list[int]:
        """Pids of all processes that were started here, by whomever, and still run."""
        return [pid for pid in _processes() if (stat := _stat(pid)) and stat.session == self.pid and not stat.is_dead]

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start, and wait until all of its processes serve. Raises TimeoutError, RuntimeError."""
        self._before = {record.pid for record in self._ledger.entries("UP")}
        path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = msgspec.json.encode(self._settings).decode()
        given = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "CHAOS": settings, **(environment or {})}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=given, start_new_session=True
            )
        try:
            await until(self._is_up, timeout=_START)
        except TimeoutError:
            raise TimeoutError(f"the workers do not come up:\n{self.log.read_text()}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """To the command alone."""
        assert self._process is not None
        self._process.send_signal(number)

    def signal_workers(self, number: signal.Signals) -> None:
        """To each of its processes that serve."""
        for pid in self.workers:
            os.kill(pid, number)

    async def wait(self, timeout: float = _END) -> int:
        """Wait until the command has ended by itself; returns its exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, timeout)

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait()

    def die(self) -> None:
        """SIGKILL for the command and all that it has started: a host's end. May be called again."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        killed: set[int] = set()
        while left := set(self.processes_left) - killed:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= left

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker ended before it served:\n{self.log.read_text()}")
        return len(self.workers) >= self.processes

    def _is_ours(self, pid: int) -> bool:
        """Whether such a process runs, and is the command or a child of it."""
        stat = _stat(pid)
        return stat is not None and self.pid in {pid, stat.parent} and not stat.is_dead


class _Stat(NamedTuple):
    """Of a process."""

    #: It runs no more, and nobody has asked for its exit code yet.
    is_dead: bool
    parent: int
    session: int


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _stat(pid: int) -> _Stat | None:
    """None when there is no such process."""
    try:
        state, parent, _, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(state in "ZX", int(parent), int(session))


class Fleet:
    """Several hosts that serve one queue."""

    def __init__(self, settings: Settings, *options: str, hosts: int = 1, processes: int = 2) -> None:
        """`options` are those of `asyncq worker`; `processes` is for each host."""
        self._settings = settings
        self._options = (*options, "--loglevel", "WARNING")
        self._processes = processes
        self._first = hosts
        self._started = 0
        self.hosts: list[Host] = []

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(self.add() for _ in range(self._first)))
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def workers(self) -> list[int]:
        """Pids of all processes that serve at the moment."""
        return [pid for host in self.hosts for pid in host.workers]

    async def add(self, environment: Mapping[str, str] | None = None) -> Host:
        """Start one more host."""
        self._started += 1
        log = Path(self._settings.ledger) / f"host-{self._started}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        host = Host(self._settings, self._options, processes=self._processes, log=log)
        self.hosts.append(host)
        await host.start(environment)
        return host

    def lose(self, host: Host) -> None:
        """This host dies."""
        host.die()
        self.hosts.remove(host)

    async def stop(self) -> list[int]:
        """SIGTERM for all; returns their exit codes."""
        return await asyncio.gather(*(host.stop() for host in self.hosts))

    def close(self) -> None:
        """Kill whatever is left."""
        for host in self.hosts:
            host.die()
