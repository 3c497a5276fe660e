"""Points in time on the wire (messages.md, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from dateutil.parser import isoparse
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.errors import DecodeError
from asyncq.protocol._times import format_time, parse_time

_MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05", _MOMENT),
        ("2030-01-02 03:04:05", _MOMENT),
        ("2030-01-02T03:04:05Z", _MOMENT),
        ("2030-01-02T08:34:05+05:30", _MOMENT),
        ("2030-01-02T03:04:05.1234567899Z", _MOMENT.replace(microsecond=123456)),
        ("20300102T030405Z", _MOMENT),
        ("2030-01-02", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-01-01T24:00:00", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-12-31T24:00Z", datetime(2031, 1, 1, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_celery_reads_is_read_alike(text: str, moment: datetime) -> None:
    parsed = parse_time(text, "eta")
    assert parsed == moment
    assert parsed.tzinfo is UTC
    theirs = isoparse(text)
    assert (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) == moment


@pytest.mark.parametrize(
    "text", ["", "now", "2030-13-01", "2030-01-02T25:00", "9999-12-31T24:00", "2030-01-01T24:00:01", "1" * 10_000_000]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="eta is no ISO 8601 time") as caught:
        parse_time(text, "eta")
    assert len(str(caught.value)) < 200


@settings(max_examples=100, deadline=None)
@given(
    moment=st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
)
def test_a_time_comes_back_in_utc_or_is_out_of_range(moment: datetime) -> None:
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(DecodeError, match="out of range"):
            parse_time(format_time(moment), "eta")
    else:
        assert parse_time(format_time(moment), "eta") == expected
