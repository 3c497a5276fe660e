"""One worker process, from outside."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from asyncq import _flight
from asyncq._flight import Flight, Header, Stage
from asyncq.supervisor._config import SupervisorConfig
from asyncq.supervisor._judgement import Silence, deadline_of_drain, deadline_of_stop

__all__ = ["DRAIN", "STOP_NOW", "Child", "describe_end", "describe_flights"]

#: What the control pipe says: stop and drain; stop at once. Its end means that the supervisor is gone: drain and exit.
DRAIN, STOP_NOW = b"T", b"N"


class Child:
    """A worker process, its flight table and its control pipe. Raises OSError when it can't be started."""

    def __init__(self, config: SupervisorConfig, number: int, now: float) -> None:
        #: Its own among all that this supervisor ever starts, so that what is done to a dead node hits no living one.
        self.number = number
        name = f"{config.name}-{number}"
        #: As the worker names itself: deliveries are recorded as held by it.
        self.node = f"{name}@{os.uname().nodename}"
        self.silence = Silence(now)
        #: Has received at least once.
        self.was_ready = False
        #: When it was told to stop, and to stop at once.
        self.asked_at: float | None = None
        self.at_once_at: float | None = None
        #: It is worn out, and another has taken its place.
        self.is_replaced = False
        #: The supervisor has ended it.
        self.is_killed = False
        self._respite = 0.0
        self._table = _flight.create()
        try:
            self._process, self._control = self._spawn(config, name)
        except OSError:
            os.close(self._table)
            raise

    def _spawn(self, config: SupervisorConfig, name: str) -> tuple[subprocess.Popen[bytes], int]:
        reading, writing = os.pipe()
        try:
            os.set_blocking(writing, False)
            own = {
                "name": name,
                "flight_fd": self._table,
                "control_fd": reading,
                "announce": self.number == 1,
                "label": str(self.number) if config.processes > 1 else None,
            }
            process = subprocess.Popen(  # noqa: S603 - an interpreter and a module of ours
                [*config.python, *config.child_program, json.dumps({**config.child, **own})],
                stdin=subprocess.DEVNULL,
                pass_fds=(self._table, reading),
                # A group of its own: Ctrl-C reaches the supervisor alone, and what a child has started dies with it.
                process_group=0,
            )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return process, writing

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log_fields(self) -> dict[str, object]:
        return {"node": self.node, "pid": self.pid}

    def header(self) -> Header | None:
        """What it says of itself; None as long as it has not said anything."""
        return _flight.read_header(self._table)

    def flights(self) -> list[Flight]:
        return _flight.read_flights(self._table)

    def brief(self) -> bytes:
        """What it left for the rescuer; empty when nobody can clean up after it."""
        return _flight.read_brief(self._table)

    def ask_to_stop(self, now: float, *, at_once: bool = False) -> None:
        """Tell it to drain, or not even that. Waits for nothing: it may never read this."""
        if at_once and self.at_once_at is None:
            self.at_once_at = now
        if self.asked_at is None:
            self.asked_at = now
            if self.header() is None:
                # It still imports: it doesn't read the pipe yet, and there is nothing that it could lose.
                self.signal(signal.SIGTERM)
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._control, STOP_NOW if at_once else DRAIN)

    def forgive(self, now: float, absence: float) -> None:
        """Nobody was there for so many seconds, this child perhaps neither: none of its times have run."""
        self.silence.forgive(now)
        if self.asked_at is not None:
            self.asked_at += absence
        if self.at_once_at is not None:
            self.at_once_at += absence
        if self.is_replaced:
            self._respite += absence

    def deadline(self, header: Header | None) -> float:
        """When it must be gone; infinity for one that is wanted."""
        stop = math.inf
        if self.asked_at is not None:
            stop = deadline_of_stop(header, asked_at=self.asked_at, at_once_at=self.at_once_at)
        return min(stop, deadline_of_drain(header) + self._respite)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it; it is there until the reaper has said otherwise."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for it and whatever it has started."""
        self.is_killed = True
        self._kill_group()

    def close(self, code: int, *, orderly: bool) -> None:
        """It has ended: leave nothing of its group unless it ended in order, and close what belongs to it."""
        # `subprocess` need not wait for it any more.
        self._process.returncode = code
        if not orderly:
            self._kill_group()
        os.close(self._table)
        os.close(self._control)

    def _kill_group(self) -> None:
        # Not there: nobody is left in it, or it has ended before it could make one.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def describe_end(code: int) -> str:
    """`exit code 3`, `SIGSEGV`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def describe_flights(flights: Sequence[Flight]) -> str:
    """`2 running, 1 concluded`: how far the tasks under way had come."""
    stages = [flight.stage for flight in flights]
    counts = (f"{stages.count(stage)} {stage.name.lower()}" for stage in Stage if stage in stages)
    return ", ".join(counts) or "nothing"
