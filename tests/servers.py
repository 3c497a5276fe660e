"""Private servers for tests, on free loopback ports, in folders of their own; no other server is ever touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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


class RabbitServer:
    """A RabbitMQ node of one's own, with its own name, data, ports and port mapper.

    Nothing of it outlives this process, however that ends. Data outlives `stop`, `kill` and `restart`, and goes with
    `close`. The user is guest, as RabbitMQ comes.
    """

    def __init__(self, **options: str) -> None:
        """`options` are lines of rabbitmq.conf, with underscores for its dots (`{"consumer_timeout": "5000"}`)."""
        self.folder = Path(tempfile.mkdtemp(prefix="asyncq-rabbit-"))
        self.port = free_port()
        self._dist_port, self._mapper_port = free_port(), free_port()
        self._node = f"{self.folder.name}@localhost"
        self._environment = os.environ | self._variables()
        self._write_config(options)
        self._mapper: _Kept | None = None
        self._server: _Kept | None = None

    @classmethod
    def existing(cls, port: int, node: str, environment: Mapping[str, str]) -> Self:
        """A node that somebody else has started and will end: its URL, and `rabbitmqctl` on it."""
        server = cls.__new__(cls)
        server.port, server._node, server._environment = port, node, os.environ | environment
        return server

    def place(self) -> dict[str, Any]:
        """The arguments of `existing`."""
        return {"port": self.port, "node": self._node, "environment": self._variables()}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add_vhost(self, name: str) -> None:
        """A virtual host that guest may use."""
        self.control("add_vhost", name)
        self.control("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")

    def add_user(
        self, name: str, password: str, vhost: str, *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """A user who may declare, write to and read in a virtual host what fits each expression."""
        self.control("add_user", name, password)
        self.control("set_permissions", "--vhost", vhost, name, configure, write, read)

    def url(self, vhost: str = "/") -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{'' if vhost == '/' else vhost}"

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def running(self) -> bool:
        """It was started here, and was not ended here since."""
        return self._server is not None

    def start(self) -> None:
        """Start, and wait until it answers: some 8 seconds."""
        assert self._server is None
        log = self.folder / "log"
        if self._mapper is None:
            epmd = ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)]
            self._mapper = _Kept(epmd, log, self._environment)
        self._server = _Kept([_rabbitmq("rabbitmq-server")], log, self._environment)
        try:
            self._await_answer()
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Shut down in order."""
        assert self._server is not None
        os.kill(self.pid, signal.SIGTERM)
        self.resume()
        server, self._server = self._server, None
        server.wait()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._server is not None
        server, self._server = self._server, None
        server.close()

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
        for process in (self._server, self._mapper):
            if process is not None:
                process.close()
        self._server = self._mapper = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def control(self, *words: str) -> str:
        """`rabbitmqctl …`; returns what it says. It takes a second or two."""
        command = [_rabbitmq("rabbitmqctl"), "--quiet", "--node", self._node, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def close_connection(self, port: int) -> None:
        """End the connection of a client, which is known by its port."""
        for line in self.control("list_connections", "pid", "peer_port").splitlines():
            pid, _, peer_port = line.partition("\t")
            if peer_port == str(port):
                self.control("close_connection", pid, "by a test")

    def _variables(self) -> dict[str, str]:
        """Everything that is not said here comes from the machine's own RabbitMQ."""
        folder = str(self.folder)
        return {
            "HOME": folder,  # of the cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            # The script becomes the node, instead of a parent that waits for it.
            "RABBITMQ_ALLOW_INPUT": "1",
            # One scheduler that does not spin: it shares the machine with the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-noinput +S 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none "
                "-kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def _write_config(self, options: Mapping[str, str]) -> None:
        given = {"loopback_users": "none", "log.console.level": "warning", "vm_memory_high_watermark.relative": "0.4"}
        given |= {"disk_free_limit.absolute": "50MB"} | dict(options)
        lines = [f"{name} = {value}\n" for name, value in given.items()]
        (self.folder / "rabbitmq.conf").write_text("".join(lines))
        (self.folder / "plugins").write_text("[].\n")
        # What is due while the node starts may find its queue not there yet; RabbitMQ tries again after 3 minutes.
        again = "{dead_letter_worker_publisher_confirm_timeout, 1000}"
        (self.folder / "advanced.config").write_text(f"[{{rabbit, [{again}]}}].\n")

    def _await_answer(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + 3 * _PATIENCE
        while not _speaks_amqp(self.port):
            if not self._server.alive or time.monotonic() > deadline:
                raise RuntimeError(f"rabbitmq-server does not answer:\n{(self.folder / 'log').read_text()[-4000:]}")
            time.sleep(0.1)


def _rabbitmq(name: str) -> str:
    """One of RabbitMQ's programs. Debian has wrappers on PATH, which change the user and run in its folder."""
    found = shutil.which(name, path=f"/usr/lib/rabbitmq/bin:{os.environ['PATH']}")
    if found is None:
        raise FileNotFoundError(f"{name} is missing: scripts/server.sh rabbitmq-server installs it")
    return found


def _speaks_amqp(port: int) -> bool:
    """True when the server sends the first frame of its handshake."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


class _Kept:
    """A process that is killed when this one ends, in whatever way."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as output:
            self._lifeline = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("lifeline.py")), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                cwd=log.parent,
            )
        assert self._lifeline.stdout is not None
        self.pid = int(self._lifeline.stdout.readline())

    @property
    def alive(self) -> bool:
        return self._lifeline.poll() is None

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        self._lifeline.wait(2 * _PATIENCE)
        self.close()

    def close(self) -> None:
        """Kill it."""
        for end in (self._lifeline.stdin, self._lifeline.stdout):
            assert end is not None
            end.close()
        self._lifeline.wait(_PATIENCE)
