"""One run of the rescuer: the process that knows the drivers, and does for dead children what needs one."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, cast

from asyncq.supervisor._reaper import Change, Happened, Reaper

__all__ = ["Rescuer"]


class Rescuer:
    """The process and its two pipes. It is told one line, and answers with one; nothing here waits for it.

    The selector's keys carry what is to be called when they are ready. Raises OSError when it can't be started.
    """

    def __init__(self, command: Sequence[str], brief: bytes, selector: selectors.BaseSelector, reaper: Reaper) -> None:
        self._selector = selector
        pipe = subprocess.PIPE
        # A group of its own: Ctrl-C must not end it.
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, process_group=0)  # noqa: S603 - ours
        self._process = process
        self._stdin, self._stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        for end in (self._stdin, self._stdout):
            os.set_blocking(end.fileno(), False)
        self._unsent = bytearray()
        self._received = bytearray()
        #: Has closed its end or died: there will be no answer any more.
        self.is_deaf = False
        #: Is no process any more.
        self.has_ended = False
        reaper.watch(process.pid, self._on_change)
        selector.register(self._stdout, selectors.EVENT_READ, self._read)
        self.tell(b64encode(brief))

    def tell(self, line: bytes) -> None:
        """Send a line; what the pipe doesn't take now goes later."""
        self._unsent += line + b"\n"
        self._write()

    def answer(self) -> str | None:
        """The next answer; None as long as there is none."""
        line, end, rest = self._received.partition(b"\n")
        if not end:
            return None
        self._received = rest
        return line.decode(errors="replace").strip()

    def dismiss(self) -> None:
        """There is nothing more to do: it ends by itself when it reads that."""
        if not self._stdin.closed:
            self._stop_writing()
            self._stdin.close()

    def kill(self) -> None:
        """It doesn't do what it should."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.is_deaf = True
        self.dismiss()
        if not self._stdout.closed:
            self._selector.unregister(self._stdout)
            self._stdout.close()

    def _write(self) -> None:
        if self._stdin.closed:
            return
        try:
            del self._unsent[: os.write(self._stdin.fileno(), self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.is_deaf = True
            self._unsent.clear()
        if not self._unsent:
            self._stop_writing()
        elif self._stdin not in self._selector.get_map():
            self._selector.register(self._stdin, selectors.EVENT_WRITE, self._write)

    def _read(self) -> None:
        chunk = os.read(self._stdout.fileno(), 4096)
        self._received += chunk
        if not chunk:
            self.is_deaf = True
            self._selector.unregister(self._stdout)
            self._stdout.close()

    def _stop_writing(self) -> None:
        if self._stdin in self._selector.get_map():
            self._selector.unregister(self._stdin)

    def _on_change(self, change: Change) -> None:
        if change.happened is Happened.ENDED:
            # `subprocess` need not wait for it any more.
            self._process.returncode = change.code
            self.has_ended = True
