"""The flight table: what a worker process has under way, in memory that outlives it.

A supervisor hands each child the descriptor of an empty file that has no name. The child maps it and writes; the
supervisor reads it by the same descriptor, while the child lives and after its death, because the memory is the
kernel's. Nothing here waits, parses what a user wrote, or needs more than the standard library.

Times are those of `monotonic`, which is one clock for all processes of a machine, and the one that asyncio's timers go
by: it stands still while the machine is suspended, as they do.

The file is a header, then slots of one size (a task under way each), then the *brief*: bytes that the supervisor
doesn't look into, and hands to the process that cleans up after a dead child.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "Flight",
    "FlightRecorder",
    "Header",
    "Phase",
    "Stage",
    "create",
    "monotonic",
    "read_brief",
    "read_flights",
    "read_header",
]

#: Also the version of the layout: both ends are of one installation, a mismatch is an accident.
_MAGIC = b"asyncq-1"

# phase, slots, on_loop, brief's length | beats, ended | stall_timeout, shutdown_timeout, kill_grace, drain_until
# | looks, threads
_HEADER = struct.Struct("=8s IIII QQ dddd QI")
_PHASE, _ON_LOOP = 8, 16
_BEATS, _ENDED = 24, 32
_DRAIN_UNTIL = 64
_LOOKS, _THREADS = 72, 80
_HEADER_SIZE = 4096

# stage, ignore_result, length of the text, monotonic start, monotonic hard limit (infinity: none), and as much of the
# text as nearly every task has, so that one call writes it all; more of it may follow.
_SLOT = struct.Struct("=BBHdd236s")
_pack_slot = _SLOT.pack_into
_FIELDS = struct.Struct("=BBHdd")
_TIMES = struct.Struct("=dd")
_STARTED_AT = _FIELDS.size - _TIMES.size
_SHORT_TEXT = _SLOT.size - _FIELDS.size
_SLOT_SIZE = 2048
_LONGEST_TEXT = _SLOT_SIZE - _FIELDS.size
#: Slots count from 1: slot `n` begins at `_BEFORE + n * _SLOT_SIZE`.
_BEFORE = _HEADER_SIZE - _SLOT_SIZE
#: Stands between the texts of a slot: no task id, task name, queue or delivery tag contains it.
_SEPARATOR = "\0"

_COUNTER = struct.Struct("=Q")
_WORD = struct.Struct("=I")
_SECONDS = struct.Struct("=d")


class Phase(IntEnum):
    """Where a worker process stands."""

    #: It imports and connects.
    STARTING = 0
    #: It receives.
    READY = 1
    #: It is worn out (a task that can't be stopped, too much memory, enough tasks): it takes nothing new, and wants to
    #: be replaced while it lets what runs end.
    CONDEMNED = 2
    #: It was told to stop: it takes nothing new, and lets what runs end.
    STOPPING = 3
    #: It has ended in order, but could not settle all that it held: a server was away.
    UNSETTLED = 4


class Stage(IntEnum):
    """How far a task under way has come."""

    FREE = 0
    #: In the user's code; the message is unacknowledged.
    RUNNING = 1
    #: In the user's code; the message was acknowledged before: nobody else will run it.
    ACKNOWLEDGED = 2
    #: Its outcome is stored, and what follows from it is published; only the acknowledgement is still under way.
    CONCLUDED = 3


# Plain numbers: to write a member of an enumeration takes five times as long, and each task writes several.
_FREE, _RUNNING, _ACKNOWLEDGED, _CONCLUDED = map(int, Stage)


class Flight(NamedTuple):
    """One task under way, as it stands in the table."""

    slot: int
    stage: Stage
    ignore_result: bool
    #: Monotonic seconds.
    started_at: float
    #: Monotonic seconds at which its hard limit passes; infinity without one.
    deadline: float
    task_id: str
    task: str
    queue: str
    #: Empty when it doesn't fit.
    tag: str


class Header(NamedTuple):
    """What a worker process says of itself."""

    phase: Phase
    #: Slot of the task whose code the loop runs at this moment; 0 for none.
    on_loop: int
    #: Grows while the loop turns, several times a second.
    beats: int
    #: Tasks that have come to an end of any kind.
    ended: int
    #: Seconds without a beat after which the process shall be killed.
    stall_timeout: float
    #: Seconds from being told to stop until running tasks are cancelled.
    shutdown_timeout: float
    #: Seconds for clean-up after that.
    kill_grace: float
    #: Condemned: monotonic seconds until which it may drain.
    drain_until: float
    #: Grows while a thread of the worker's own gets its turns, several times a second, the loop's apart.
    looks: int = 0
    #: Threads that run `def` tasks: each of them can keep all others, the loop's among them, from their turns.
    threads: int = 0


def create() -> int:
    """Make an empty table; return its descriptor, which is the caller's to close."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("asyncq-flights")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def monotonic() -> float:
    """The clock of the flight table, in seconds."""
    return time.monotonic()  # noqa: TID251 - the supervisor must read the same one, whatever clock a worker is given


class FlightRecorder:
    """The worker's end. A task's whole way through it costs half a microsecond; nothing raises for lack of room."""

    def __init__(
        self,
        descriptor: int,
        *,
        slots: int,
        stall_timeout: float,
        shutdown_timeout: float,
        kill_grace: float,
        brief: bytes = b"",
    ) -> None:
        end = _HEADER_SIZE + slots * _SLOT_SIZE
        os.ftruncate(descriptor, end + len(brief))
        self._memory = memory = mmap.mmap(descriptor, end + len(brief))
        memory[end : end + len(brief)] = brief
        # Taken from the end, so that a quiet worker touches few pages.
        self._free = list(range(slots, 0, -1))
        self._slots = slots
        self._beats = self._looks = self._threads = 0
        #: Tasks that have come to an end of any kind.
        self.ended = 0
        self.condemned = False
        with memoryview(memory) as view:
            #: One number: the slot whose code the loop runs at this moment, 0 for none. Written by whoever drives a
            #: task, before and after each step.
            self.on_loop = view[_ON_LOOP : _ON_LOOP + 4].cast("I")
        timeouts = stall_timeout, shutdown_timeout, kill_grace, 0.0
        _HEADER.pack_into(memory, 0, _MAGIC, Phase.STARTING, slots, 0, len(brief), 0, 0, *timeouts, 0, 0)

    def beat(self) -> None:
        """The loop turns, and runs no task's code."""
        self.on_loop[0] = 0
        self._beats += 1
        _COUNTER.pack_into(self._memory, _BEATS, self._beats)

    def look(self) -> None:
        """Another thread than the loop's has its turn."""
        self._looks += 1
        _COUNTER.pack_into(self._memory, _LOOKS, self._looks)

    def count_threads(self, change: int) -> None:
        """So many threads more run `def` tasks, or less."""
        self._threads += change
        _WORD.pack_into(self._memory, _THREADS, self._threads)

    def set_phase(self, phase: Phase) -> None:
        _WORD.pack_into(self._memory, _PHASE, phase)

    def condemn(self, drain_until: float) -> None:
        """It drains until then (monotonic seconds), and wants to be replaced."""
        _SECONDS.pack_into(self._memory, _DRAIN_UNTIL, drain_until)
        self.set_phase(Phase.CONDEMNED)
        self.condemned = True

    def suspect(self, slot: int) -> None:
        """A silent loop was found to run this task's code, in a part that nobody drives (a child task, a callback)."""
        if not self.on_loop[0]:
            self.on_loop[0] = slot

    def enter(  # noqa: PLR0917 - every task passes here, and names of arguments take time
        self,
        task_id: str,
        task: str,
        queue: str,
        tag: str,
        started_at: float,
        deadline: float,
        ignore_result: bool,
    ) -> int:
        """A task begins; returns its slot, 0 when there is none left (it is then nobody's suspect)."""
        free = self._free
        if not free:
            return 0
        text = f"{task_id}{_SEPARATOR}{task}{_SEPARATOR}{queue}{_SEPARATOR}{tag}".encode(errors="replace")
        length = len(text)
        if length > _LONGEST_TEXT:
            text = f"{task_id}{_SEPARATOR}{task}{_SEPARATOR}{queue}{_SEPARATOR}".encode(errors="replace")
            length = len(text)
            if length > _LONGEST_TEXT:
                return 0
        slot = free.pop()
        start = _BEFORE + slot * _SLOT_SIZE
        memory = self._memory
        _pack_slot(memory, start, _FREE, ignore_result, length, started_at, deadline, text)
        if length > _SHORT_TEXT:
            memory[start + _SLOT.size : start + _FIELDS.size + length] = text[_SHORT_TEXT:]
        # Last: a process that dies in between leaves a slot that is still free.
        memory[start] = _RUNNING
        return slot

    def acknowledge(self, slot: int) -> None:
        """Its message is gone: if this process dies, nobody runs it, and somebody must say so."""
        if slot:
            self._memory[_BEFORE + slot * _SLOT_SIZE] = _ACKNOWLEDGED

    def start(self, slot: int, started_at: float, deadline: float) -> None:
        """The user's code begins only now, later than the task has entered."""
        if slot:
            _TIMES.pack_into(self._memory, _BEFORE + slot * _SLOT_SIZE + _STARTED_AT, started_at, deadline)

    def conclude(self, slot: int) -> None:
        """Its outcome is stored, and what follows is published."""
        if slot:
            self._memory[_BEFORE + slot * _SLOT_SIZE] = _CONCLUDED

    def leave(self, slot: int) -> None:
        """It is nobody's business any more."""
        if slot:
            self._memory[_BEFORE + slot * _SLOT_SIZE] = _FREE
            self._free.append(slot)

    def leave_together(self, slots: Sequence[int]) -> None:
        """Several of them are nobody's business any more."""
        memory = self._memory
        for slot in slots:
            memory[_BEFORE + slot * _SLOT_SIZE] = _FREE
        self._free += slots

    @property
    def is_empty(self) -> bool:
        """Nothing is under way."""
        return len(self._free) == self._slots

    def count_ended(self, number: int = 1) -> None:
        """Tasks have come to an end."""
        self.ended += number
        _COUNTER.pack_into(self._memory, _ENDED, self.ended)


def read_header(descriptor: int) -> Header | None:
    """What stands there now; None as long as the child has not written anything."""
    raw = os.pread(descriptor, _HEADER.size, 0)
    if len(raw) < _HEADER.size or not raw.startswith(_MAGIC):
        return None
    _, phase, _, on_loop, _, beats, ended, *rest = _HEADER.unpack(raw)
    return Header(Phase(phase), on_loop, beats, ended, *rest)


def read_flights(descriptor: int) -> list[Flight]:
    """All tasks under way, in the order of their slots."""
    flights: list[Flight] = []
    for slot in range(1, _layout(descriptor)[0] + 1):
        raw = os.pread(descriptor, _SLOT_SIZE, _BEFORE + slot * _SLOT_SIZE)
        stage, ignore_result, length, started_at, deadline = _FIELDS.unpack_from(raw)
        if stage != Stage.FREE:
            texts = raw[_FIELDS.size : _FIELDS.size + length].decode(errors="replace").split(_SEPARATOR, 3)
            # Less than four: a slot that a living child writes at this very moment.
            if len(texts) == 4:
                flights.append(Flight(slot, Stage(stage), bool(ignore_result), started_at, deadline, *texts))
    return flights


def read_brief(descriptor: int) -> bytes:
    """What the child left for the process that cleans up after it."""
    slots, length = _layout(descriptor)
    return os.pread(descriptor, length, _HEADER_SIZE + slots * _SLOT_SIZE)


def _layout(descriptor: int) -> tuple[int, int]:
    """Number of slots, bytes of the brief."""
    raw = os.pread(descriptor, _HEADER.size, 0)
    if len(raw) < _HEADER.size or not raw.startswith(_MAGIC):
        return 0, 0
    _, _, slots, _, brief, *_ = _HEADER.unpack(raw)
    return slots, brief
