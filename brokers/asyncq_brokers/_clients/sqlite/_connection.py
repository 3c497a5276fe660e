"""One SQLite connection, seen from an event loop.

Nothing of ours uses asyncio's default executor, which is the user's: with 60 slow functions in it a driver's call
waited 1.8 s. A thread a connection also keeps jobs in order, so that one may rely on what an earlier one did.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.sqlite._errors import Failures
from asyncq_brokers._clients.sqlite._location import locate
from asyncq_brokers._clients.sqlite._session import Session
from asyncq_brokers._clients.sqlite._worker import Job, Settings, Worker

T = TypeVar("T")

#: Seconds that `close` waits for the thread. It ends by itself afterwards.
_CLOSE_TIMEOUT = 1.0

#: "normal": a commit is handed to the kernel, so that it outlives any death of a process; the log reaches the disk at
#: a checkpoint, so that a power cut may undo the last commits, but never damages the file. "full" waits for the disk at
#: each commit.
_SYNCHRONOUS = {"normal": "NORMAL", "full": "FULL"}


class Connection:
    """The file: `open`, `run` jobs, `close`. It may be opened again.

    Whatever fails comes out as one of `failures`, or as a ConfigurationError that says what to do.
    """

    def __init__(self, config: DriverConfig, failures: Failures) -> None:
        self.path = locate(config.url, config.app)
        self._timeout = config.timeout
        self._failures = failures
        self._clock = config.environment.clock
        self._settings = Settings(
            path=self.path,
            synchronous=_synchronous(config),
            failures=failures,
            clock=self._clock,
            dice=config.environment.random,
            writers=config.shared.setdefault(f"asyncq_brokers.sqlite {self.path}", threading.Lock()),
        )
        self._worker: Worker | None = None
        self._pending: set[asyncio.Future[Any]] = set()  # Any: each job has its own answer

    async def open(self) -> None:
        """Open the file, making it where there is none."""
        if self._worker is None:
            self._worker = Worker(self._settings)
        await self.run(lambda _: None)  # the thread connects for its first job

    async def run(self, function: Callable[[Session], T]) -> T:
        """Run the function on the connection's thread, after what was asked for before.

        Cancelled, or out of time, the call ends at once; the function is then left out, or still done as a whole.
        """
        return await self.answer(self.ask(function))

    def ask(self, function: Callable[[Session], T]) -> asyncio.Future[T]:
        """`run` in two steps: whoever has the future may end the wait for its answer, by settling it."""
        if self._worker is None:
            raise self._failures.connection(f"{self.path} is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._worker.put(Job(function, self._clock.monotonic() + self._timeout, future))
        return future

    async def answer(self, future: asyncio.Future[T]) -> T:
        """What `ask` asked for."""
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            raise self._failures.connection(f"{self.path}: no answer for {self._timeout:g} s") from None

    def post(self, function: Callable[[Session], object]) -> None:
        """Run the function after what was asked for before. Nobody waits for it, but `close` lets it happen."""
        if self._worker is not None:
            self._worker.put(Job(function, self._clock.monotonic() + self._timeout, None))

    async def close(self) -> None:
        """End the calls under way, then the thread."""
        worker, self._worker = self._worker, None
        for future in list(self._pending):
            if not future.done():
                future.set_exception(self._failures.connection(f"{self.path} was closed"))
        if worker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await worker.stop()


def _synchronous(config: DriverConfig) -> str:
    """The one option there is, checked."""
    if unknown := config.options.keys() - {"synchronous"}:
        raise ConfigurationError(f"sqlite:// knows no option {', '.join(sorted(unknown))}; there is `synchronous`")
    value = config.options.get("synchronous", "normal")
    if value not in _SYNCHRONOUS:
        raise ConfigurationError(f"sqlite:// option synchronous={value!r}: it is 'normal' or 'full'")
    return _SYNCHRONOUS[value]
