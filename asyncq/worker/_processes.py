"""Processes that run a call at a time for the worker, are killed when it is given up, and say what they died of."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple, cast

from asyncq._logs import LogSettings
from asyncq.errors import EncodeError
from asyncq.worker._process import SIZE, serve

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Spawned and not forked: the worker has threads, and a loop that runs.
_SPAWN = multiprocessing.get_context("spawn")

#: Seconds that a process is kept for the next call.
_MOST_IDLE = 300.0

#: Seconds that killed processes get to be gone.
_REAPING = 5.0


class ProcessDied(Exception):
    """The process ended in the middle of a call. The text says by which signal, or with which exit code."""


class ProcessPool:
    """As many processes as there are calls at a time; those that are idle are used again, the last one first."""

    def __init__(self) -> None:
        #: With the loop's time since when; the longest first.
        self._idle: deque[tuple[PooledProcess, float]] = deque()
        self._all: set[PooledProcess] = set()

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in one of them, as `PooledProcess.run` does."""
        async with self.process() as process:
            return await process.run(function, *args)

    @asynccontextmanager
    async def process(self, *, new: bool = False) -> AsyncGenerator[PooledProcess]:
        """One of them to oneself, for any number of calls; a new one, if that is asked for."""
        process = await (self._open() if new else self._take())
        try:
            yield process
        finally:
            if not process.given_up:
                self._idle.append((process, asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Kill what is left, and see it gone."""
        for process in self._all:
            process.kill()
        if self._all:
            await asyncio.wait([process.ended for process in self._all], timeout=_REAPING)

    async def _take(self) -> PooledProcess:
        long_ago = asyncio.get_running_loop().time() - _MOST_IDLE
        while self._idle and self._idle[0][1] < long_ago:
            self._idle.popleft()[0].kill()
        while self._idle:
            process, _ = self._idle.pop()
            if not process.ended.done():
                return process
        return await self._open()

    async def _open(self) -> PooledProcess:
        process = PooledProcess()
        self._all.add(process)
        process.ended.add_done_callback(lambda _: self._all.discard(process))
        await process.open()
        return process


class PooledProcess:
    """One of them. It belongs to the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Its exit code, negative for a signal.
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = _SPAWN.Process(
                target=serve, args=(theirs, LogSettings.of_this_process()), name="asyncq-task"
            )
            self._process.start()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        #: It was killed, or is of no use any more.
        self.given_up = False
        #: A task's code has run in it, and may have left something there. For those who want to know.
        self.used = False
        self._end = _descriptor_of_end(cast("int", self._process.pid))
        self._loop.add_reader(self._sentinel, self._reap)

    async def open(self) -> None:
        try:
            self._streams = await asyncio.open_connection(sock=self._socket)
        except BaseException:
            self.kill()
            raise

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function, which the process imports by its name, and return or raise what it does.

        Cancelled, it kills the process. Raises ProcessDied, and EncodeError for what cannot cross.
        """
        request = pickle.dumps((function, args))
        try:
            answer = await self._call(request)
        except BaseException:
            self.kill()
            raise
        try:
            value, error = pickle.loads(answer)  # noqa: S301 - from our own process
        except Exception as exc:
            raise EncodeError(f"what the task returned can't be read outside of its process: {exc}") from exc
        if error is not None:
            raise error
        return value

    async def _call(self, request: bytes) -> bytes:
        """Send a request, wait for the answer. Raises ProcessDied."""
        answer = self._loop.create_task(self._exchange(request))
        try:
            # Not the end of the connection alone: what a task has forked may keep that open.
            await asyncio.wait({answer, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and answer.exception() is None:
                return answer.result()
            self.kill()  # it has hung up, and may live on all the same
            await asyncio.wait({self.ended}, timeout=_REAPING)
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        raise ProcessDied(f"its process {_words(self.ended.result()) if self.ended.done() else 'does not end'}")

    def kill(self) -> None:
        """End it now. May be called twice."""
        self.given_up = True
        if not self.ended.done():
            self._process.kill()
        if self._streams is None:
            self._socket.close()
        else:
            self._streams[1].close()

    async def _exchange(self, request: bytes) -> bytes:
        assert self._streams is not None  # noqa: S101 - `open` comes first
        reader, writer = self._streams
        writer.write(len(request).to_bytes(SIZE, "big") + request)
        await writer.drain()
        size = await reader.readexactly(SIZE)
        return await reader.readexactly(int.from_bytes(size, "big"))

    @property
    def _sentinel(self) -> int:
        return self._process.sentinel if self._end is None else self._end

    def _reap(self) -> None:
        self._loop.remove_reader(self._sentinel)
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        if self._end is not None:
            os.close(self._end)
        if not self.ended.done():
            self.ended.set_result(0 if code is None else code)
        self.kill()


def _descriptor_of_end(pid: int) -> int | None:
    """A descriptor that turns readable when the process ends; None where the system has no such thing.

    The one of multiprocessing would wait for what the process has forked as well.
    """
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None


def _words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
