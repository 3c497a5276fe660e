"""A worker process that plays a part: it writes its flight table, and does to its supervisor what the part says.

The parts stand in the arguments under `parts`, by the child's number; the last one holds for all that follow. What
happens to it goes into the diary, a file of one JSON object a line.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from asyncq._flight import FlightRecorder, Phase

BEAT = 0.05


class Child:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.number = int(told["name"].rpartition("-")[2])
        self.control = told["control_fd"]
        faulthandler.register(signal.SIGUSR1)

    @property
    def part(self) -> str:
        parts = self.told["parts"]
        return parts[min(self.number, len(parts)) - 1]

    def write(self, event: str) -> None:
        """A line in the diary."""
        line = json.dumps({"who": self.number, "pid": os.getpid(), "event": event})
        diary = os.open(self.told["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(diary, f"{line}\n".encode())
        os.close(diary)

    def get_ready(self) -> FlightRecorder:
        table = self.open_table()
        table.set_phase(Phase.READY)
        table.beat()
        self.write("ready")
        return table

    def open_table(self) -> FlightRecorder:
        timeouts = {"stall_timeout": 30.0, "shutdown_timeout": 8.0, "kill_grace": 2.0, **self.told.get("timeouts", {})}
        brief = {"diary": self.told["diary"], "child": os.getpid(), **self.told.get("rescuer", {})}
        brief["padding"] = "x" * brief.get("padding_size", 0)
        wants_rescue = self.told.get("rescuer") is not None
        return FlightRecorder(
            self.told["flight_fd"], slots=8, **timeouts, brief=json.dumps(brief).encode() if wants_rescue else b""
        )

    def work(self, table: FlightRecorder, *, obedient: bool = True, until: str = "") -> NoReturn:
        """Beat, and listen; end when told, or when the file `until` is there."""
        while True:
            table.beat()
            if obedient and select.select([self.control], [], [], BEAT)[0]:
                word = os.read(self.control, 1)
                self.write(f"told {word.decode()}" if word else "left alone")
                sys.exit(0)
            if not obedient:
                time.sleep(BEAT)
            if until and Path(until).exists():
                self.write("drained")
                sys.exit(0)

    def begin(self, table: FlightRecorder, task_id: str, *, deadline: float = math.inf, early: bool = False) -> int:
        slot = table.enter(
            task_id=task_id,
            task="shop.play",
            queue="celery",
            tag=f"tag-{task_id}",
            started_at=time.monotonic(),
            deadline=deadline,
            ignore_result=False,
        )
        if early:
            table.acknowledge(slot)
        return slot


def steady(child: Child) -> NoReturn:
    child.work(child.get_ready())


def deaf(child: Child) -> NoReturn:
    """It never reads what it is told, and holds a task."""
    table = child.get_ready()
    child.begin(table, "held")
    child.work(table, obedient=False)


def silent_start(child: Child) -> NoReturn:
    """It imports, and never comes to an end of that."""
    child.write("importing")
    time.sleep(3600)
    sys.exit(0)


def start_for_ever(child: Child) -> NoReturn:
    """It waits for something before it receives, and doesn't listen."""
    table = child.open_table()
    child.write("starting")
    while True:
        table.beat()
        time.sleep(BEAT)


def stick_at_start(child: Child) -> NoReturn:
    """Its loop has turned once, and never again."""
    child.open_table().beat()
    child.write("starting")
    time.sleep(3600)
    sys.exit(0)


def crash_at_start(child: Child) -> NoReturn:
    child.write("begun")
    os._exit(1)


def crash_fruitlessly(child: Child) -> NoReturn:
    child.get_ready()
    os._exit(1)


def crash_after_work(child: Child) -> NoReturn:
    table = child.get_ready()
    table.count_ended()
    os._exit(1)


def segfault(child: Child) -> NoReturn:
    """With one task in each stage under way."""
    table = child.get_ready()
    child.begin(table, "running")
    child.begin(table, "early", early=True)
    table.conclude(child.begin(table, "concluded"))
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(3600)
    sys.exit(0)


def vanish(child: Child) -> NoReturn:
    """A task ends the process as if all was well."""
    table = child.get_ready()
    child.begin(table, "running")
    os._exit(0)


def vanish_when_told(child: Child) -> NoReturn:
    """A task ends the process as if all was well, when it is told to drain."""
    table = child.get_ready()
    child.begin(table, "running")
    select.select([child.control], [], [])
    table.set_phase(Phase.STOPPING)
    os._exit(0)


def leave_something(child: Child) -> NoReturn:
    """It ends when it is told to, and can't settle what it holds."""
    table = child.get_ready()
    child.begin(table, "interrupted")
    select.select([child.control], [], [])
    table.set_phase(Phase.UNSETTLED)
    sys.exit(0)


def block(child: Child) -> NoReturn:
    """A task holds the loop beyond its hard limit, beside another that waits."""
    table = child.get_ready()
    child.begin(table, "neighbour")
    culprit = child.begin(table, "culprit", deadline=time.monotonic() + 0.5)
    table.beat()
    table.on_loop[0] = culprit
    time.sleep(3600)
    sys.exit(0)


def hold_interpreter(child: Child) -> NoReturn:
    """A thread holds the interpreter while the loop is in the code of a task, beyond that one's limit."""
    table = child.get_ready()
    child.begin(table, "guilty")
    table.count_threads(1)
    table.on_loop[0] = child.begin(table, "innocent", deadline=time.monotonic() + 0.5)
    time.sleep(3600)
    sys.exit(0)


def stand_still(child: Child) -> NoReturn:
    """The loop stands still, and no task is on it."""
    table = child.get_ready()
    child.begin(table, "neighbour")
    time.sleep(3600)
    sys.exit(0)


def stagger(child: Child) -> NoReturn:
    """The loop stands still for as long as one begins to worry, and goes on."""
    table = child.get_ready()
    slot = child.begin(table, "slow", deadline=time.monotonic() + 3600)
    table.on_loop[0] = slot
    time.sleep(2.0)
    child.write("went on")
    child.work(table)


def doze(child: Child) -> NoReturn:
    """It doesn't beat while the file `doze` is there, as if it had been frozen."""
    table = child.get_ready()
    while True:
        if Path("doze").exists():
            child.write("dozes")
            while Path("doze").exists():
                time.sleep(BEAT)
            child.write("wakes")
        table.beat()
        time.sleep(BEAT)


def wear_out(child: Child) -> NoReturn:
    """It wants to be replaced, and drains until the test lets it end."""
    table = child.get_ready()
    table.count_ended()
    child.begin(table, "draining")
    table.condemn(time.monotonic() + child.told.get("drain", 3600))
    child.work(table, until=child.told["gate"])


def wear_out_at_once(child: Child) -> NoReturn:
    table = child.get_ready()
    if child.told.get("fruitful", True):
        table.count_ended()
    table.condemn(time.monotonic() + 3600)
    sys.exit(0)


def wrong_usage(child: Child) -> NoReturn:
    child.write("begun")
    sys.exit(2)


def unreachable(child: Child) -> NoReturn:
    child.write("begun")
    sys.exit(3)


def finish(child: Child) -> NoReturn:
    """As in burst mode."""
    table = child.get_ready()
    table.count_ended()
    sys.exit(0)


def have_offspring(child: Child) -> NoReturn:
    """It has started a process of its own, as for a task in a process."""
    if os.fork():
        steady(child)
    child.write("born")
    time.sleep(3600)
    sys.exit(0)


def read_source(child: Child) -> NoReturn:
    """It can't start while the source is wrong."""
    text = Path("shop.py").read_text()
    child.write(f"read {text}")
    if text == "wrong":
        sys.exit(2)
    steady(child)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    child = Child(told)
    globals()[child.part](child)
