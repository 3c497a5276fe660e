"""What a forked child must forget: connections, threads and loops that belong to its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forgetful", "forget_in_child"]


class Forgetful(Protocol):
    """Something that holds what a fork doesn't carry over."""

    def forget(self) -> list[object]:
        """Start anew, without a lock or a thread of the parent's. Returns what was held."""
        ...


_registered: WeakSet[Forgetful] = WeakSet()

#: What was forgotten is kept for ever: were it collected, its destructors would close the parent's connections.
_forgotten: list[object] = []


def forget_in_child(holder: Forgetful) -> None:
    """Make every forked child call `holder.forget()` first."""
    _registered.add(holder)


def _after_fork() -> None:
    for holder in list(_registered):
        _forgotten.extend(holder.forget())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
