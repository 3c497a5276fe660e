"""What the demo shows while it runs, and the table at its end. Plain lines where there is no terminal."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


@dataclass
class Tally:
    """What is known of one kind of task."""

    kind: str
    expected: int
    retries: int = 0
    failures: list[str] = field(default_factory=list[str])
    #: Seconds from the send to the result in hand, one a task.
    latencies: list[float] = field(default_factory=list[float])

    @property
    def finished(self) -> int:
        return len(self.latencies) + len(self.failures)

    @property
    def complete(self) -> bool:
        """Every task ended, and as it should."""
        return len(self.latencies) == self.expected


class Board(Protocol):
    """Told after every task."""

    def update(self, tally: Tally) -> None: ...


@contextmanager
def live_board(console: Console, tallies: Iterable[Tally]) -> Generator[Board]:
    """Bars on a terminal, a line every tenth elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    retried = TextColumn("{task.fields[retries]} retries", style="yellow")
    with Progress(*columns, retried, console=console) as progress:
        yield _Bars(progress, tallies)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, tally: Tally) -> None:
        step = max(1, tally.expected // 10)
        if tally.finished % step == 0 or tally.finished == tally.expected:
            self._console.print(f"{tally.kind}: {tally.finished} of {tally.expected}, {tally.retries} retries")


class _Bars:
    def __init__(self, progress: Progress, tallies: Iterable[Tally]) -> None:
        self._progress = progress
        self._bars = {tally.kind: progress.add_task(tally.kind, total=tally.expected, retries=0) for tally in tallies}

    def update(self, tally: Tally) -> None:
        self._progress.update(self._bars[tally.kind], completed=tally.finished, retries=tally.retries)


def summary(tallies: Iterable[Tally], elapsed: float) -> Table:
    """The table at the end; `elapsed` is in seconds."""
    table = Table(title=f"Done in {elapsed:.1f} s")
    table.add_column("work")
    for heading in ("tasks", "retries", "failures", "tasks/s", "p50", "p95"):
        table.add_column(heading, justify="right")
    for tally in tallies:
        table.add_row(
            tally.kind,
            str(tally.expected),
            str(tally.retries),
            str(len(tally.failures)),
            f"{len(tally.latencies) / elapsed:.0f}",
            *_percentiles(tally.latencies),
        )
    return table


def _percentiles(latencies: list[float]) -> tuple[str, str]:
    if len(latencies) < 2:
        return "-", "-"
    cuts = quantiles(latencies, n=20, method="inclusive")
    return f"{cuts[9]:.2f} s", f"{cuts[18]:.2f} s"
