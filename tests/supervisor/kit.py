"""A supervisor as a process, over children that play parts (`supervisor.child`)."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from waiting import PATIENCE, until

_TESTS = Path(__file__).parent.parent


class Supervision:
    """`python -m asyncq.supervisor` in a folder of its own. Within `async with`."""

    def __init__(
        self,
        folder: Path,
        *parts: str,
        processes: int = 1,
        reload: bool = False,
        executable: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        **told: Any,
    ) -> None:
        self.diary = folder / "diary"
        self.gate = folder / "gate"
        self._folder = folder
        self._log = folder / "log"
        document = {
            "name": "play",
            "processes": processes,
            "log_level": "debug",
            "reload": reload,
            # Without `site`: parts need nothing that is installed, and start in half the time.
            "python": [executable, "-S"],
            "child_program": ["-m", "supervisor.child"],
            "rescue_program": ["-m", "supervisor.rescuer"],
            "child": {"parts": parts, "diary": str(self.diary), "gate": str(self.gate), **told},
        }
        self._command = [sys.executable, "-W", "error", "-m", "asyncq.supervisor", json.dumps(document)]
        path = [str(_TESTS), str(_TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a moment
                self._command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stderr=log
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        for pid in {entry["pid"] for entry in self.entries() if "pid" in entry}:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        print(f"--- log\n{self.log}\n--- diary\n{self.diary.read_text() if self.diary.exists() else ''}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self._log.read_text()

    def entries(self, event: str = "", who: int | str | None = None) -> list[dict[str, Any]]:
        """The diary; what begins so, of this one alone."""
        text = self.diary.read_text() if self.diary.exists() else ""
        entries = [json.loads(line) for line in text.splitlines()]
        return [entry for entry in entries if entry["event"].startswith(event) and who in (None, entry["who"])]

    async def happened(self, event: str, who: int | str | None = None, *, times: int = 1) -> dict[str, Any]:
        """Wait until it stands in the diary so many times; return the last of them."""
        await until(lambda: len(self.entries(event, who)) >= times)
        return self.entries(event, who)[times - 1]

    async def said(self, text: str, *, times: int = 1) -> None:
        """Wait until it stands in the supervisor's log so many times."""
        await until(lambda: self.log.count(text) >= times)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, *, timeout: float = PATIENCE) -> int:
        """Wait for its end; return the exit code."""
        await until(lambda: self.process.poll() is not None, timeout=timeout)
        return self.process.returncode

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def children(self) -> list[int]:
        """Its children, zombies too."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


def state_of(pid: int) -> str:
    """`R`, `S`, `T` (stopped), `Z` …; empty for a process that isn't there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    return state_of(pid) not in {"", "Z"}
