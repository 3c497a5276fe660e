"""How large an experiment is. A row says what happens; its scale says for how long and how often."""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """One size of the standard load and of the faults. Times are in seconds."""

    #: Tasks sent a second.
    rate: int
    #: Load before the fault begins, and after it has ended.
    before: float
    after: float
    #: How long a fault lasts.
    fault: float
    #: Part of the full number of repetitions (cuts, restarts, clients).
    part: float
    #: Of one worker.
    concurrency: int
    lease: float
    #: The longest that a call on the network may take: the client's own, and so how soon silence is noticed.
    network_timeout: float
    shutdown_timeout: float
    #: After a drain: how long nothing may start any more.
    quiet: float
    #: Shortest and longest time that a task lasts.
    pause: tuple[float, float] = (0.02, 0.2)
    #: By how much what takes processor time may take longer than the specification allows: to start a process, say.
    slack: float = 1

    def times(self, full: int) -> int:
        """So many of `full` repetitions."""
        return max(2, round(full * self.part))


#: A few seconds a row, on a machine that does other things as well.
SHORT = Scale(
    rate=100,
    before=1.5,
    after=1.5,
    fault=4,
    part=0.05,
    concurrency=20,
    lease=3,
    network_timeout=2,
    shutdown_timeout=5,
    quiet=0.5,
    slack=5,
)

#: The specification's numbers.
LONG = Scale(
    rate=300,
    before=15,
    after=15,
    fault=30,
    part=1,
    concurrency=50,
    lease=6,
    network_timeout=5,
    shutdown_timeout=10,
    quiet=12,
)
