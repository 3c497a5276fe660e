"""A shell for the tests: `asyncq …` in a folder of its own, on a SQLite file of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncq._clock import system_environment
from asyncq.driver import Broker, DriverConfig
from asyncq_brokers.sqlite import SQLiteBroker

PATIENCE = 60  # seconds that anything may take before the test fails

SHOP = """
import asyncio

from asyncq import AsyncQ, Reject

queue = AsyncQ("shop")


@queue.task
async def add(a: int, b: int = 1) -> int:
    return a + b


@queue.task
async def echo(value: object) -> object:
    return value


@queue.task(max_retries=0)
async def fail(reason: str) -> None:
    raise ValueError(reason)


@queue.task
async def refuse(reason: str) -> None:
    raise Reject(reason)


@queue.task
async def hang(marker: str) -> str:
    open(marker, "w").close()
    await asyncio.sleep(3600)
    return "never"


@queue.task
async def nap(marker: str, seconds: float) -> str:
    open(marker, "w").close()
    await asyncio.sleep(seconds)
    return "rested"
"""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The answer of `--json`: one line, and nothing else on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


class RunningWorker:
    """`asyncq worker`, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log = ""

    async def until(self, text: str) -> str:
        """Read the log up to a line with `text` in it; return all that was read so far."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while text not in self.log:
                line = await self._process.stderr.readline()
                assert line, f"the worker ended before it said {text!r}:\n{self.log}"
                self.log += line.decode()
        return self.log

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end by itself; return the exit code."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.log += (await self._process.stderr.read()).decode()
            return await self._process.wait()


class Shell:
    """A folder to run commands in, and the environment that they see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "state"
        foreign = ("ASYNCQ_", "CELERY_", "REDIS_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "ASYNCQ_HOME": str(self.home),
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "error",
        }

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @asynccontextmanager
    async def broker(self) -> AsyncGenerator[Broker]:
        """The broker that the shop's commands talk to, beside the block."""
        url = f"sqlite:///{self.home}/shop.sqlite"
        broker = SQLiteBroker(DriverConfig(url=url, app="shop", environment=system_environment()))
        await broker.open()
        try:
            yield broker
        finally:
            await broker.close()

    async def run(
        self,
        *arguments: str,
        stdin: int = asyncio.subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run `asyncq …` to its end."""
        process = await self._start(arguments, stdin, environment)
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        finally:
            await _kill(process)
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def worker(self, *arguments: str) -> AsyncGenerator[RunningWorker]:
        """`asyncq worker shop:queue …` beside the block; killed after it, if it still runs."""
        process = await self._start(("worker", "shop:queue", *arguments), asyncio.subprocess.DEVNULL)
        try:
            worker = RunningWorker(process)
            await worker.until("Ready")
            yield worker
        finally:
            await _kill(process)

    async def _start(
        self, arguments: Sequence[str], stdin: int, environment: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "asyncq",
            *arguments,
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def file_appears(self, name: str) -> None:
        """Wait for a task to say, by a file, that it has begun."""
        async with asyncio.timeout(PATIENCE):
            while not (self.folder / name).exists():
                await asyncio.sleep(0.02)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """No process outlives its test, and its pipes are closed: they may be a little later than the process is gone."""
    if process.returncode is None:
        process.kill()
    async with asyncio.timeout(PATIENCE):
        await process.communicate()
