"""Times as the commands show and read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from asyncq.cli._failures import CommandError
from asyncq.cli._moments import as_iso, describe, read_moment

NOON = datetime.fromisoformat("2030-01-02T12:00").timestamp()  # local time, as in what is asserted


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "12:00:00 (now)"),
        (0.9, "12:00:00 (now)"),
        (1, "12:00:01 (in 1 s)"),
        (119, "12:01:59 (in 119 s)"),
        (150, "12:02:30 (in 2 m)"),
        (3600 * 3, "15:00:00 (in 3 h)"),
        (-90, "11:58:30 (90 s ago)"),
        (-86400, "2030-01-01 12:00 (24 h ago)"),
        (86400 * 40, "2030-02-11 12:00 (in 40 d)"),
    ],
)
def test_a_moment_is_told_by_the_clock_and_by_its_distance(seconds: float, text: str) -> None:
    assert describe(NOON + seconds, NOON) == text


@pytest.mark.parametrize("moment", [None, 1e300, float("nan"), -1e18])
def test_a_moment_that_is_none_is_told_as_such(moment: float | None) -> None:
    assert describe(moment, NOON) == "?"
    assert as_iso(moment) is None


def test_scripts_get_iso_8601_in_utc() -> None:
    assert as_iso(1_893_585_600.1234) == "2030-01-02T12:00:00.123+00:00"


def test_a_moment_is_read_as_a_delay_or_as_a_time() -> None:
    assert read_moment(90, None, NOON) == NOON + 90
    assert read_moment(0, None, NOON) == NOON
    assert read_moment(None, "2030-01-02T12:00", 0.0) == NOON
    utc = datetime(2030, 1, 2, 11, 30, tzinfo=UTC).timestamp()
    assert read_moment(None, "2030-01-02T12:30:00+01:00", 0.0) == utc
    assert read_moment(None, "2030-01-02T11:30:00Z", 0.0) == utc


@pytest.mark.parametrize(
    ("delay", "at"), [(None, None), (5, "2030-01-02"), (None, "tomorrow"), (None, ""), (1e300, None)]
)
def test_what_is_no_moment_is_refused(delay: float | None, at: str | None) -> None:
    with pytest.raises(CommandError):
        read_moment(delay, at, NOON)
