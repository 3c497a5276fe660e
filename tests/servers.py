"""Private servers for tests, on free loopback ports, in folders of their own; no other server is ever touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds until a server must answer, or be gone.
_PATIENCE = 20.0


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A redis-server of one's own.

    `options` are lines of redis.conf (`{"appendonly": "yes"}`). Data outlives `stop`, `kill` and `restart`, as far as
    the options keep it, and goes with `close`.
    """

    def __init__(self, **options: str) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="asyncq-redis-"))
        self.socket_path = self.folder / "redis.sock"
        self._options: Mapping[str, str] = {
            "save": "",
            "appendonly": "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "databases": "128",
        } | {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None
        given = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), **self._options}
        given["unixsocket"] = str(self.socket_path)
        arguments = [word for name, value in given.items() for word in (f"--{name}", value)]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=log)
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut down in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def paused(self) -> Generator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """Stop and remove the data."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """One command over a connection of its own; returns the raw reply. For what needs no client."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            encoded = [word.encode() for word in words]
            request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded)
            connection.sendall(request)
            return connection.recv(65536)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(number)
        if number is not signal.SIGKILL:
            process.send_signal(signal.SIGCONT)
        process.wait(_PATIENCE)

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):  # -LOADING while it reads its files
                    return
            except OSError:
                pass
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            if time.monotonic() > deadline:
                raise TimeoutError("redis-server does not answer")
            time.sleep(0.01)
