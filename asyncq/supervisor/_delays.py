"""How long to wait before something is tried again."""

from __future__ import annotations

__all__ = ["doubling"]


def doubling(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row, from 1 on: `first`, twice as long each time, then `longest`."""
    return min(first * 2.0 ** min(failures - 1, 32), longest)
