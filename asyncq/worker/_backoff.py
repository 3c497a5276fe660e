"""How long to wait for a server that is away."""

from __future__ import annotations

import random


class Backoff:
    """Exponential with jitter: 0.1 s at first, `cap` seconds at most, so that a fleet doesn't come back as one."""

    def __init__(self, dice: random.Random, *, cap: float = 2.0) -> None:
        self._dice = dice
        self._cap = cap
        self._failures = 0

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def next_delay(self) -> float:
        """Count a failure; return the seconds to wait before the next try."""
        ceiling = min(self._cap, 0.1 * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._dice.uniform(ceiling / 2, ceiling)

    def reset(self) -> bool:
        """Count a success; return whether it ended a series of failures."""
        ended = self._failures > 0
        self._failures = 0
        return ended
