"""Rates as Celery writes them (semantics.md, section 4)."""

from __future__ import annotations

from asyncq.errors import ConfigurationError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(rate: str | float | None) -> float | None:
    """Tokens a second of `10`, `"10/s"`, `"10/m"` or `"10/h"`; None, 0 and "" mean that there is no limit.

    Raises ConfigurationError.
    """
    if rate is None or rate in {"", "0"}:
        return None
    try:
        if isinstance(rate, str):
            number, _, unit = rate.partition("/")
            per_second = float(number) / _SECONDS[unit.strip() or "s"]
        else:
            per_second = float(rate)
    except (ValueError, KeyError):
        raise ConfigurationError(f"rate limit {rate!r}: write a number, or a number with /s, /m or /h") from None
    if not 0 <= per_second < float("inf"):
        raise ConfigurationError(f"rate limit {rate!r}: the number must not be negative")
    return per_second or None
