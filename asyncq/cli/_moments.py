"""Points in time, as people and as scripts read and write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from asyncq.cli._failures import CommandError

#: Seconds a unit, and how many of one make the next worth while: 90 seconds are 90 s, 150 are 2 m.
_UNITS = (("d", 86400, 2), ("h", 3600, 2), ("m", 60, 2), ("s", 1, 0))


def describe(moment: float | None, now: float) -> str:
    """Local time of a UNIX time, with the date unless it is today's, and how far away it is: `03:04:05 (in 3 m)`."""
    found, today = _utc(moment), _utc(now)
    if moment is None or found is None or today is None:
        return "?"
    local = found.astimezone()
    text = f"{local:%H:%M:%S}" if local.date() == today.astimezone().date() else f"{local:%Y-%m-%d %H:%M}"
    return f"{text} ({_distance(moment - now)})"


def as_iso(moment: float | None) -> str | None:
    """A UNIX time in ISO 8601, UTC."""
    found = _utc(moment)
    return None if found is None else found.isoformat(timespec="milliseconds")


def read_moment(delay: float | None, at: str | None, now: float) -> float:
    """The UNIX time that `--in` or `--at` says. Raises CommandError."""
    if (delay is None) == (at is None):
        raise CommandError("say when: either --in SECONDS or --at TIME")
    try:
        if at is not None:
            return datetime.fromisoformat(at).timestamp()  # without an offset: the local time, as the list shows it
        return (datetime.fromtimestamp(now, UTC) + timedelta(seconds=delay or 0)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise CommandError(f"no time: {at or delay}; it reads 2030-01-31T12:00, or 2030-01-31T12:00+01:00") from None


def _utc(moment: float | None) -> datetime | None:
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):  # whoever may write a queue may write this, too
        return None


def _distance(seconds: float) -> str:
    size = abs(seconds)
    if size < 1:
        return "now"
    unit, length = next((unit, length) for unit, length, least in _UNITS if size >= least * length)
    amount = f"{size // length:.0f} {unit}"
    return f"in {amount}" if seconds > 0 else f"{amount} ago"
