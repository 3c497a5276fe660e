"""Points in time as the wire has them: ISO 8601 text, where no offset means UTC (messages.md, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from asyncq.errors import DecodeError

#: Longer than any ISO 8601 time that Celery reads.
_MAX_TEXT = 64


def parse_time(value: object, name: str) -> datetime:
    """An aware datetime in UTC from ISO 8601 text, or from a datetime that a serialiser or AMQP made already.

    Raises DecodeError, which calls the value `name`.
    """
    if isinstance(value, str):
        moment = _parse_text(value, name)
    elif isinstance(value, datetime):
        moment = value
    else:
        raise DecodeError(f"{name} must be ISO 8601 text, not {type(value).__name__}")
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:  # the year 1 east of Greenwich, the year 9999 west of it
        raise DecodeError(f"{name} is out of range") from exc


def format_time(moment: datetime) -> str:
    """ISO 8601 with an offset, always: aio-celery refuses a time without, Python before 3.11 a `Z`."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()


def _parse_text(text: str, name: str) -> datetime:
    if len(text) <= _MAX_TEXT:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        # The midnight that ends a day: allowed by ISO 8601 and Celery, refused by Python before 3.14.
        if "T24:00" in text:
            try:
                midnight = datetime.fromisoformat(text.replace("T24:00", "T00:00", 1))
                if midnight.time() == time.min:
                    return midnight + timedelta(days=1)
            except (ValueError, OverflowError):
                pass
    raise DecodeError(f"{name} is no ISO 8601 time: {text[:_MAX_TEXT]!r}")
