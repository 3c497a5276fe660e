"""Signals, as the supervisor understands them."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from asyncq._stop_signals import STOPPING

__all__ = ["Signals"]


class Signals:
    """Signals as bytes in a pipe, so that a selector wakes up for them. Within `with`; after it they have no effect."""

    def __init__(self) -> None:
        #: Readable when signals have come.
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (*STOPPING, signal.SIGCHLD):
            # A handler must be there for the byte to be written; it has nothing to do.
            signal.signal(number, _do_nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._write_end)

    def take(self) -> list[signal.Signals]:
        """The signals that have come since the last call, in their order."""
        try:
            raw = os.read(self.descriptor, 4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in raw]


def _do_nothing(_number: int, _frame: FrameType | None) -> None: ...
