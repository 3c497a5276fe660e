"""Clients and workers of both kinds on one broker, and the ways that a canvas can take among them."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from asyncq import AsyncQ
from asyncq._clock import new_id
from interop.canvas.asyncq_side import AsyncqSender, Noting, declare_tasks
from interop.canvas.outcomes import Tree
from interop.canvas.routing import InTurns
from interop.canvas.tasks import Notes
from processes import Program

# `Any` below: what canvases come to.

#: Bytes of the longest line that Celery's client prints.
_LONGEST = 2**24


_THEIRS, _OURS, _MIXED = ("celery",), ("asyncq",), ("celery", "asyncq")


class Way(Struct, frozen=True):
    """Who sends a canvas, and who runs it: workers of both kinds get its messages in turns."""

    client: str
    workers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.client} to {' and '.join(self.workers)}"


#: The way without asyncq.
ALONE = Way("celery", _THEIRS)

#: Those with it.
WAYS = (
    Way("celery", _OURS),
    Way("asyncq", _THEIRS),
    Way("celery", _MIXED),
    Way("asyncq", _MIXED),
)


class Fleet:
    """A client of each kind; a worker of Celery's, one of asyncq's, and one of asyncq's that shares with Celery's."""

    def __init__(self, broker: str, backend: str, notes: Notes) -> None:
        """`notes` are those of asyncq's workers."""
        self._broker, self._backend = broker, backend
        self._notes = notes
        self._name = f"canvas-{new_id()[:8]}"  # the broker may be shared with other tests
        self._apps = {workers: self._app(workers) for workers in {way.workers for way in WAYS}}
        self._senders = {str(way): AsyncqSender(self._apps[way.workers]) for way in WAYS if way.client == "asyncq"}
        self._client: Process | None = None

    @asynccontextmanager
    async def clients(self) -> AsyncGenerator[None]:
        ways = {str(way): self._queues(way.workers) for way in (ALONE, *WAYS) if way.client == "celery"}
        config = {"broker": self._broker, "backend": self._backend, "ways": ways}
        command = [sys.executable, "-m", "interop.canvas.celery_client", json.dumps(config)]
        tests = Path(__file__).parents[2]
        client = await asyncio.create_subprocess_exec(*command, cwd=tests, stdin=PIPE, stdout=PIPE, limit=_LONGEST)
        self._client = client
        try:
            yield
        finally:
            if client.returncode is None:
                client.kill()
            await client.communicate()
            for app in self._apps.values():
                await app.aclose()

    @asynccontextmanager
    async def workers(self) -> AsyncGenerator[None]:
        """In the end they stop in order, so that nothing that was begun is left."""
        [own], mixed = self._queues(_THEIRS), self._queues(_MIXED)
        config = {"broker": self._broker, "backend": self._backend, "queue": own, "mixed": mixed}
        async with (
            Program("interop.canvas.celery_worker", config, strict=False) as celery,
            self._apps[_OURS].worker(),
            self._apps[_MIXED].worker(),
        ):
            yield
            assert await asyncio.to_thread(celery.stop) == 0

    async def send(self) -> dict[str, dict[str, Tree]]:
        """Send every canvas on every way; return by way and name where their results are found."""
        sent = {way: await sender.send() for way, sender in self._senders.items()}
        return msgspec.json.decode(await self._read_client(), type=dict[str, dict[str, Tree]]) | sent

    async def values(self) -> dict[str, dict[str, Any]]:
        """What `get()` comes to, by way and name."""
        assert self._client is not None
        assert self._client.stdin is not None
        self._client.stdin.write(b"\n")
        found = {way: await sender.values() for way, sender in self._senders.items()}
        return msgspec.json.decode(await self._read_client()) | found

    async def pass_through_celery(self) -> None:
        """Have Celery's worker run a task behind all that is in its queue.

        And another one: what it has sent itself before the first may have been on its way to RabbitMQ until then.
        """
        for _ in range(2):
            await (await self._apps[_THEIRS].send_task("echo", ["passed"])).get()

    async def left(self) -> dict[str, int]:
        """How many messages are left, by queue, where there are any."""
        broker = self._apps[_OURS].make_broker()
        await broker.open()
        try:
            depths = {queue: await broker.depth(queue) for workers in self._apps for queue in self._queues(workers)}
        finally:
            await broker.close()
        return {queue: depth.ready for queue, depth in depths.items() if depth.ready}

    def _queues(self, workers: Sequence[str]) -> list[str]:
        return [f"{self._name}-{worker}-of-{len(workers)}" for worker in workers]

    def _app(self, workers: Sequence[str]) -> AsyncQ:
        queues = self._queues(workers)
        app = AsyncQ(
            "interop",
            broker=self._broker,
            backend=self._backend,
            default_queue=queues[-1],
            routes=InTurns(queues),
            middleware=[Noting(self._notes)],
        )
        declare_tasks(app, self._notes)
        return app

    async def _read_client(self) -> bytes:
        assert self._client is not None
        assert self._client.stdout is not None
        return await self._client.stdout.readline()
