"""What became of the tasks that were under way when their processes ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from chaos.ledger import Record


def unfinished(records: Sequence[Record], pids: Collection[int]) -> set[str]:
    """Tasks that these processes have begun and not brought to their ends."""
    begun: set[str] = set()
    for record in records:
        if record.pid in pids and record.kind == "START":
            begun.add(record.task_id)
        elif record.pid in pids and record.kind == "END" and record.detail != "interrupted":
            begun.discard(record.task_id)
    return begun


def busiest(records: Sequence[Record], pids: Collection[int]) -> int:
    """The one of these processes that has begun most tasks within the last second that is on record."""
    starts = [record for record in records if record.kind == "START"]
    late = Counter(record.pid for record in starts if record.monotonic > starts[-1].monotonic - 1)
    return max(sorted(pids), key=late.__getitem__)


def begun_again(records: Sequence[Record], pids: Collection[int], moment: float) -> list[float]:
    """For each task that these processes, which were gone at that moment, have left: seconds until another began it.

    In the order of time. Raises AssertionError when one was never begun again.
    """
    again = _begun_elsewhere(records, pids)
    missing = never_begun_again(records, pids)
    assert not missing, f"never begun again: {sorted(missing)}"
    return sorted(begun - moment for begun in again.values())


def never_begun_again(records: Sequence[Record], pids: Collection[int]) -> set[str]:
    """What these processes have begun and not finished, and nobody else has begun so far."""
    return unfinished(records, pids) - _begun_elsewhere(records, pids).keys()


def _begun_elsewhere(records: Sequence[Record], pids: Collection[int]) -> dict[str, float]:
    left = unfinished(records, pids)
    again: dict[str, float] = {}
    for record in records:
        if record.kind == "START" and record.task_id in left and record.pid not in pids:
            again.setdefault(record.task_id, record.monotonic)
    return again


def first_start(records: Sequence[Record], pids: Collection[int]) -> float:
    """When one of these processes first began a task; infinity: never."""
    return next((record.monotonic for record in records if record.kind == "START" and record.pid in pids), float("inf"))


def ends_between(records: Sequence[Record], begin: float, end: float, *, pids: Collection[int] = ()) -> int:
    """How many tasks came to an end in that time, in these processes or in any."""
    ends = [r for r in records if r.kind == "END" and begin <= r.monotonic < end]
    return sum(1 for record in ends if not pids or record.pid in pids)
