"""What the coordination stores have in common: which arguments they refuse, and the arithmetic of a token bucket."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from asyncq.driver import Fact

__all__ = ["check_bucket", "check_facts", "check_keys", "check_prefix", "check_ttl", "read_counter", "reserve"]

#: The longest key, in characters.
MAX_KEY = 512

_PREFIX = re.compile(rf"[A-Za-z0-9.:/@_-]{{0,{MAX_KEY}}}")

#: Seconds. UNIX times as floats are this exact, and each token taken adds one to another.
_RESOLUTION = 1e-6


def check_keys(keys: Iterable[str]) -> None:
    """Refuse what `Fact.key` doesn't allow. Raises ValueError."""
    for key in keys:
        if not key:
            raise ValueError("the key of a fact must not be empty")
        check_prefix(key)


def check_prefix(prefix: str) -> None:
    """Refuse what no key can begin with. Raises ValueError."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix[:80]!r} can't be in the key of a fact: letters and digits of ASCII and .:/@-_ can, "
            f"{MAX_KEY} characters at most"
        )


def check_ttl(ttl: float) -> None:
    """Refuse what is no time to live. Raises ValueError."""
    if not 0 < ttl < math.inf:
        raise ValueError(f"the time to live of a fact must be a positive number of seconds, not {ttl!r}")


def check_facts(facts: Sequence[Fact]) -> None:
    """`check_keys` and `check_ttl` for facts. Raises ValueError."""
    check_keys(fact.key for fact in facts)
    for fact in facts:
        check_ttl(fact.ttl)


def check_bucket(bucket: str, *, rate: float, capacity: float) -> None:
    """Refuse what is no bucket. Raises ValueError."""
    check_keys([bucket])
    if not 0 < rate < math.inf:
        raise ValueError(f"the rate of a bucket must be a positive number of tokens a second, not {rate!r}")
    if not 1 <= capacity < math.inf:
        raise ValueError(f"a bucket must have room for a token: its capacity can't be {capacity!r}")


def read_counter(key: str, value: bytes | None) -> int:
    """The number that a fact holds; 0 where there is none. Raises ValueError."""
    try:
        return 0 if value is None else int(value)
    except ValueError:
        raise ValueError(f"the fact {key!r} holds no number") from None


def reserve(full_at: float | None, now: float, *, rate: float, capacity: float) -> tuple[float, float]:
    """Take a token; returns the seconds until it is there, and the time at which the bucket will be full again.

    That time is all there is to know of a bucket (the generic cell rate algorithm, ITU-T I.371): what is full, or was
    never used, has none. Each token taken moves it on by 1/rate, beyond what is in the bucket too: a reservation.
    """
    missing = 0.0 if full_at is None else max(full_at - now, 0.0)
    wait = missing - (capacity - 1) / rate
    return (wait if wait > _RESOLUTION * capacity else 0.0), now + missing + 1 / rate
