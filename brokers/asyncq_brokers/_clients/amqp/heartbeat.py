"""Signs of life, each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Heartbeat"]


class Heartbeat:
    """Sees to it that something is sent now and then, and notices when nothing comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: Loop times of the last bytes, from the server and to it.
        self.heard = self.said = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, *, beat: Callable[[], None], on_silence: Callable[[], None]) -> None:
        """Call `beat` after half that time without a word of ours, and `on_silence`, once, after twice without theirs.

        0 seconds: neither.
        """
        if not seconds:
            return

        def look() -> None:
            now = self._loop.time()
            if now - self.heard > 2 * seconds:
                on_silence()
                return
            if now - self.said >= seconds / 2:
                beat()
            self._timer = self._loop.call_later(seconds / 2, look)

        look()

    def stop(self) -> None:
        """May be called again."""
        if self._timer is not None:
            self._timer.cancel()
