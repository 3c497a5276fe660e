"""What really ran, on record where neither a broker nor a SIGKILL can touch it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One line."""

    kind: str
    task_id: str
    #: Process or program that wrote it.
    who: str


class Ledger:
    """A file that any number of processes append to: one write a line, so that none is torn."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def write(self, kind: str, task_id: str, who: str | None = None) -> None:
        line = f"{kind} {task_id} {os.getpid() if who is None else who}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All lines so far, or those of one kind, in order."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        entries = (Entry(*line.split(" ")) for line in complete.splitlines())
        return [entry for entry in entries if kind is None or entry.kind == kind]

    def runs(self, kind: str) -> Counter[str]:
        """How often each task has such a line."""
        return Counter(entry.task_id for entry in self.entries(kind))

    def workers(self, kind: str) -> Counter[str]:
        """How many such lines each writer has."""
        return Counter(entry.who for entry in self.entries(kind))
