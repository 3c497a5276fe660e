"""A bench whose time is virtual, with what tests over hours and days need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from asyncq._context import Context
from asyncq.worker import Worker
from asyncq.worker._attempt import Attempt
from virtual import VirtualClock, virtual_environment, virtual_loop
from worker.bench import Bench

HOUR = 3600.0
DAY = 86400.0

#: Seconds that a due message may be late: the broker's housekeeping looks every half second.
LATE = 1.0


class Start(NamedTuple):
    """A task's first line ran."""

    name: str
    #: Monotonic, and UNIX seconds.
    at: float
    wall: float


class World(Bench):
    """One in-process store on the running virtual loop; everything in it is repeated exactly for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self.loop = virtual_loop()
        environment = virtual_environment(seed)
        assert isinstance(environment.clock, VirtualClock)
        self.clock = environment.clock
        super().__init__(environment, patience=30 * DAY)
        #: In order; tasks write it by `note`.
        self.starts: list[Start] = []
        self._workers = 0

    def worker(self, **settings: Any) -> Worker:
        """A worker with a node name of its own."""
        self._workers += 1
        return super().worker(**{"name": f"worker-{self._workers}"} | settings)

    def note(self, name: str = "") -> None:
        self.starts.append(Start(name, self.clock.monotonic(), self.clock.wall()))

    def noted(self, name: str) -> list[Start]:
        return [start for start in self.starts if start.name == name]

    def date(self, seconds: float) -> datetime:
        """The date in so many seconds, by the wall clock of this moment."""
        return datetime.fromtimestamp(self.clock.wall() + seconds, UTC)

    async def reaches(self, condition: Callable[[], bool], *, within: float, every: float = 0.1) -> None:
        """Wait until something that no event tells of has come true. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(every)


def tag_of(ctx: Context) -> str:
    """The tag of the delivery that is being run. Private, and just what these tests are about."""
    return cast("Attempt", ctx._attempt).delivery.tag
