"""The Protocol of a store of small facts that workers and clients share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct


class Fact(Struct, frozen=True, kw_only=True):
    """Something small that all workers and clients of an app shall know for a while."""

    #: Letters and digits of ASCII and any of `.:/@-_` (at most 512 characters); the driver puts its own prefix in front
    #: of it.
    key: str
    value: bytes
    #: Seconds until it is forgotten.
    ttl: float


class Coordination(Protocol):
    """Small shared facts with a time to live. An instance belongs to the event loop of the driver that gave it.

    Every method is atomic for each key, and safe to cancel: whether a cancelled call had its effect is then unknown.
    All raise BrokerError or BackendError (the connection's above all), as the driver that gave it does, and ValueError
    for a key, a prefix, a time, a rate or a capacity that can't be, before anything is done.
    """

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        """Write facts, in order. With `if_absent`, False for those whose key was taken, maybe by an earlier one of the
        batch: what is there stays as it is. With `if_same`, False for those whose key has another value, or none (any
        more): the time to live of the others begins anew. Not both.
        """
        ...

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values; None for what is not there (any more)."""
        ...

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        """Forget facts; with `if_value` only those that have this value. Returns how many were forgotten."""
        ...

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        """Add to a counter (which is 0 when it is not there) and renew its time to live. Returns the new number.

        `get` gives it as decimal text. Raises ValueError when what is there is no number, and leaves it.
        """
        ...

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        """Take a token from a bucket that fills with `rate` tokens a second and holds `capacity`; at first it is full.

        Returns 0.0 when there was one. Otherwise the token is *reserved*, and the seconds until it is there are
        returned: callers line up, each with a time of its own, and nobody needs to ask again. Buckets are no facts:
        they have names of their own, and are forgotten when they are full.
        """
        ...

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        """All facts whose keys begin with `prefix`, in the order of their keys."""
        ...


@runtime_checkable
class Coordinating(Protocol):
    """A broker or a result backend whose server can coordinate."""

    @property
    def coordination(self) -> Coordination: ...
