"""What really happened, on record where neither a broker nor a SIGKILL can touch it.

A ledger is a folder with one append-only file a process. A record is one `os.write` of at most 128 bytes on an
`O_APPEND` descriptor: it is never torn, needs no fsync, and survives whatever becomes of its writer.

======== ============================================ ==============================================
kind     written                                      detail
======== ============================================ ==============================================
TRY      before a send                                checksum of the arguments
ACK      the send returned
NACK     the send raised: fate unknown                class of the error
START    a task's first line                          checksum of the arguments as they came
EFFECT   its one side effect
END      its last line, however it got there          outcome; of a success the value as well
GIVEN    a task gets what another has returned        place among several, and value
SENDING  a chord's body has begun                     checksum of the name of its sending
PERIL    a task that is up to something begins        its name
STORED   a reader saw a final result                  state and value
FAULT    a fault begins, ends                         `on <what>`, `off <what>`
LOG      a worker's warning or error                  logger's last name
UP, DOWN a worker opens, closes its resources
======== ============================================ ==============================================
"""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter, defaultdict
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_MOST_BYTES = 128
_NANO = 1e-9


class Record(NamedTuple):
    """One line."""

    kind: str
    #: `-` where no task is meant.
    task_id: str
    #: Retries so far.
    attempt: int
    #: Checksum of the delivery tag; `-` where there is none.
    tag: str
    pid: int
    #: Number of the worker's child, as its node name has it; 0 without.
    generation: int
    #: Seconds; the machine's clock, so that processes can be compared.
    monotonic: float
    #: UNIX seconds.
    wall: float
    detail: str


_MOMENT = attrgetter("monotonic")


class Ledger:
    """A ledger to write in, from any number of processes and threads, and to read at any moment."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._descriptor: tuple[int, int] | None = None
        self._read: dict[Path, int] = {}
        self._records: defaultdict[str, list[Record]] = defaultdict(list)

    def write(
        self, kind: str, task_id: str = "-", detail: str = "", *, attempt: int = 0, tag: str = "", generation: int = 0
    ) -> None:
        hashed = f"{crc32(tag.encode()):08x}" if tag else "-"
        times = f"{time.monotonic_ns()} {time.time_ns()}"
        line = f"{kind} {task_id} {attempt} {hashed} {os.getpid()} {generation} {times} {detail}\n".encode()
        assert len(line) <= _MOST_BYTES, line
        os.write(self._own_file(), line)

    def entries(self, kind: str | None = None) -> list[Record]:
        """All records so far, or those of one kind, in the order of time."""
        self._read_on()
        if kind is not None:
            return list(self._records[kind])
        return sorted(chain(*self._records.values()), key=_MOMENT)

    def count(self, kind: str) -> int:
        self._read_on()
        return len(self._records[kind])

    def ids(self, kind: str) -> set[str]:
        """Tasks that have such a record."""
        return {record.task_id for record in self.entries(kind)}

    def runs(self, kind: str) -> Counter[str]:
        """How often each task has such a record."""
        return Counter(record.task_id for record in self.entries(kind))

    def writers(self, kind: str) -> Counter[int]:
        """How many such records each process has."""
        return Counter(record.pid for record in self.entries(kind))

    def _own_file(self) -> int:
        """This process's file; a forked child gets one of its own."""
        if self._descriptor is None or self._descriptor[0] != os.getpid():
            self.path.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.path / f"{os.getpid()}.ledger", flags, 0o600)
            weakref.finalize(self, os.close, descriptor)
            self._descriptor = os.getpid(), descriptor
        return self._descriptor[1]

    def _read_on(self) -> None:
        """Read what was written since the last look: tests look often."""
        grown: set[str] = set()
        for path in self.path.glob("*.ledger"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read().splitlines(keepends=True)
            complete = [line for line in lines if line.endswith(b"\n")]
            self._read[path] = self._read.get(path, 0) + sum(map(len, complete))
            for record in map(_parse, complete):
                self._records[record.kind].append(record)
                grown.add(record.kind)
        for kind in grown:
            self._records[kind].sort(key=_MOMENT)


def _parse(line: bytes) -> Record:
    kind, task_id, attempt, tag, pid, generation, monotonic, wall, detail = line[:-1].decode().split(" ", 8)
    times = int(monotonic) * _NANO, int(wall) * _NANO
    return Record(kind, task_id, int(attempt), tag, int(pid), int(generation), *times, detail)
