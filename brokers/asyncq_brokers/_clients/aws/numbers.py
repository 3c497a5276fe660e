"""Numbers and booleans in settings and URLs, which come as text where they stood in the environment."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["read_flag", "read_number", "read_seconds"]

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def read_flag(value: Any) -> bool:  # Any: the user's
    """Yes or no. Raises ValueError."""
    flag = _FLAGS.get(str(value).lower())
    if flag is None:
        raise ValueError(f"must be True or False, not {value!r:.40}")
    return flag


def read_number(value: Any, *, least: int = 0, most: int | None = None) -> int:  # Any: the user's
    """A whole number between two bounds, both of them allowed. Raises ValueError."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"must be a whole number, not {value!r:.40}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"must be at least {least}" if most is None else f"must be from {least} to {most}")
    return number


def read_seconds(value: Any) -> float:  # Any: the user's
    """Seconds, 0 or more. Raises ValueError."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"must be a number of seconds, not {value!r:.40}") from None
    if not 0 <= seconds < math.inf:
        raise ValueError("must be a number of seconds, 0 or more")
    return seconds
