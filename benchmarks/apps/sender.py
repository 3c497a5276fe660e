"""What every library's client is asked to do."""

from __future__ import annotations

from typing import Protocol


class Sender(Protocol):
    """Sends calls of the two tasks, and waits for results."""

    async def singles(self, count: int) -> None:
        """Send calls one by one, each awaited: from 32 coroutines where the library has coroutines."""
        ...

    async def batch(self, count: int) -> None:
        """Send calls in the way that the library offers for many."""
        ...

    async def mark(self, name: str) -> None:
        """Send a call that writes down the time under a name."""
        ...

    async def round_trip(self) -> None:
        """Send one call and wait for its result."""
        ...

    async def close(self) -> None: ...


#: Coroutines that send at the same time.
COROUTINES = 32


def shares(count: int) -> list[int]:
    """How many calls each of the coroutines sends."""
    return [count // COROUTINES + (number < count % COROUTINES) for number in range(COROUTINES)]
