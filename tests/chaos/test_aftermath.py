"""What is told of tasks whose processes were killed."""

from __future__ import annotations

import pytest

from chaos.aftermath import begun_again, busiest, ends_between, first_start, never_begun_again, unfinished
from chaos.ledger import Record

_DEAD, _HEIR = 1, 2


def record(moment: float, kind: str, task_id: str, pid: int, detail: str = "") -> Record:
    return Record(kind, task_id, 0, "-", pid, 0, moment, moment, detail)


RECORDS = [
    record(1.0, "START", "ended", _DEAD),
    record(1.5, "END", "ended", _DEAD, "success x"),
    record(2.0, "START", "cut", _DEAD),
    record(2.1, "START", "stopped", _DEAD),
    record(2.9, "END", "stopped", _DEAD, "interrupted"),
    record(3.0, "START", "other", _HEIR),
    record(4.0, "START", "stopped", _HEIR),
    record(4.5, "START", "cut", _HEIR),
    record(4.6, "START", "cut", _HEIR),
    record(5.0, "END", "cut", _HEIR, "success y"),
]


def test_what_was_cut_off_or_interrupted_is_unfinished() -> None:
    assert unfinished(RECORDS, {_DEAD}) == {"cut", "stopped"}
    assert unfinished(RECORDS, {_HEIR}) == {"other", "stopped"}


def test_the_busiest_has_begun_most_of_late() -> None:
    assert busiest(RECORDS, {_DEAD, _HEIR}) == _HEIR
    assert busiest(RECORDS[:5], {_DEAD, _HEIR}) == _DEAD
    assert busiest(RECORDS, {_DEAD}) == _DEAD


def test_the_first_run_elsewhere_counts() -> None:
    assert begun_again(RECORDS, {_DEAD}, 3.0) == [1.0, 1.5]
    assert first_start(RECORDS, {_HEIR}) == 3.0


def test_what_nobody_has_begun_again_is_missed() -> None:
    assert never_begun_again(RECORDS[:7], {_DEAD}) == {"cut"}
    with pytest.raises(AssertionError, match="never begun again: \\['cut'\\]"):
        begun_again(RECORDS[:7], {_DEAD}, 3.0)


def test_ends_are_counted_by_time_and_process() -> None:
    assert ends_between(RECORDS, 1.5, 5.0) == 2
    assert ends_between(RECORDS, 0.0, 9.0, pids={_HEIR}) == 1
