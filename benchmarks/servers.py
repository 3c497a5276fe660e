"""The servers of the runs: the tests' own (tests/servers.py), private, on free loopback ports.

What they keep, they keep in memory where the system has a file system for that: disks differ more than libraries.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import amqp

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from servers import RabbitServer, RedisServer

__all__ = ["KINDS", "Redis", "Server", "running", "running_redis"]

_MEMORY = Path("/dev/shm")

KINDS = ("redis", "rabbitmq")


class Server(Protocol):
    """What a run needs of one."""

    url: str
    pid: int
    version: str

    def clear(self, queues: Sequence[str]) -> None:
        """Make it as if nothing had been sent to these queues."""
        ...


class Redis:
    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.url = server.url()
        self.pid = server.pid
        said = subprocess.run(["redis-server", "--version"], check=True, capture_output=True, text=True).stdout
        self.version = "redis-server " + said.split("v=")[-1].split()[0]

    def clear(self, queues: Sequence[str]) -> None:  # noqa: ARG002 - it is the only thing there
        self._server.command("FLUSHALL")

    def told(self, section: str, name: str) -> float:
        """A number that its INFO tells."""
        lines = self._server.command("INFO", section).decode().splitlines()
        return next(float(line.partition(":")[2]) for line in lines if line.startswith(f"{name}:"))


class _Rabbit:
    def __init__(self, server: RabbitServer) -> None:
        self._address = f"127.0.0.1:{server.port}"
        self.url = server.url()
        self.pid = server.pid
        with amqp.Connection(self._address) as connection:
            self.version = f"RabbitMQ {connection.server_properties['version']}"

    def clear(self, queues: Sequence[str]) -> None:
        with amqp.Connection(self._address) as connection, connection.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)


@contextmanager
def running(kind: str) -> Iterator[Server]:
    """Start a server of one of the kinds; end it afterwards."""
    if kind == "redis":
        with running_redis() as redis:
            yield redis
    else:
        _keep_in_memory()
        with RabbitServer() as rabbit:
            yield _Rabbit(rabbit)


@contextmanager
def running_redis() -> Iterator[Redis]:
    """The same for Redis, of which there is more to ask."""
    _keep_in_memory()
    with RedisServer() as server:
        yield Redis(server)


def _keep_in_memory() -> None:
    if _MEMORY.is_dir():
        tempfile.tempdir = str(_MEMORY)
