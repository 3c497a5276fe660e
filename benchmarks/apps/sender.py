"""What every library's client is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Sender(Protocol):
    """Sends calls of the two tasks, and waits for results."""

    async def singles(self, count: int) -> None:
        """Send calls one by one, each awaited: from 32 coroutines, or from threads where the library has none."""
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


class CanvasSender(Sender, Protocol):
    """Sends workflows of the task that does nothing, too. Each ends in a call that writes down the time."""

    async def chord(self, size: int, name: str) -> None:
        """Send a chord with so many calls in its header; its body gets their results."""
        ...

    async def replaced(self, size: int, name: str) -> None:
        """Send a call that such a chord takes the place of: its worker makes and sends it."""
        ...

    async def chain(self, length: int, name: str) -> None:
        """Send a chain of so many calls and the one that writes."""
        ...


#: Coroutines or threads that send at the same time.
SENDERS = 32


def shares(count: int) -> list[int]:
    """How many calls each of them sends."""
    return [count // SENDERS + (number < count % SENDERS) for number in range(SENDERS)]


def in_threads(send: Callable[[int], None], count: int) -> None:
    """Let as many threads send their shares."""
    with ThreadPoolExecutor(SENDERS) as threads:
        for sent in [threads.submit(send, share) for share in shares(count)]:
            sent.result()
