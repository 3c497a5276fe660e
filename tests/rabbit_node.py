"""One RabbitMQ node for all processes of a test run: it starts when the first asks, and ends when the last has gone.

As a module it is what each test process calls; as a program it holds the node. Whoever uses the node keeps a connection
to the program's socket open, which the system closes for a process that is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from servers import RabbitServer

if TYPE_CHECKING:
    import pytest

#: Seconds until the node must answer.
_PATIENCE = 90.0


def run_folder(factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of a test run have in common."""
    base = factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@contextmanager
def shared_node(folder: Path) -> Generator[RabbitServer]:
    """The node of a test run, whose processes all name the same folder. Nobody may stop or freeze it."""
    path = folder / "rabbit.sock"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        with (folder / "rabbit.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                connection.connect(os.fspath(path))
            except OSError:
                _start(path)
                _connect(connection, path)
        with connection.makefile("r") as answer:
            yield RabbitServer.existing(**json.loads(answer.readline()))


def _start(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [sys.executable, __file__, os.fspath(path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True,
        )  # fmt: skip


def _connect(connection: socket.socket, path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.connect(os.fspath(path))
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(path.with_suffix(".log").read_text()) from None
            time.sleep(0.05)
        else:
            return


def main(path: str) -> None:
    if os.fork():  # whoever started us waits for no child
        return
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen()
        # Whoever has started us waits for the first connection; nobody else comes meanwhile.
        with RabbitServer() as node:
            selector.register(listener, selectors.EVENT_READ)
            users = 0
            listener.settimeout(_PATIENCE)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        user, _ = listener.accept()
                        user.sendall(json.dumps(node.place()).encode() + b"\n")
                        selector.register(user, selectors.EVENT_READ)
                        users += 1
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]  # a socket, as all that is registered
                        users -= 1
                if not users:
                    return


if __name__ == "__main__":
    main(sys.argv[1])
