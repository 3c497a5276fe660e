"""The standard load: one producer that tells the ledger what it sends, and a reader that tells what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

from asyncq import AsyncQ
from asyncq._clock import new_id
from asyncq.driver import ResultBackend
from asyncq.errors import AsyncqError
from asyncq.protocol import READY_STATES, decode_result
from chaos.app import checksum
from chaos.ledger import Ledger
from chaos.scale import Scale

#: Seconds between two looks of the reader.
_LOOK = 0.2

#: Ids in one question to the back end.
_BATCH = 500


class Load:
    """Sends at an even rate, whatever becomes of single sends, until it is told to stop."""

    def __init__(self, app: AsyncQ, ledger: Ledger, scale: Scale, dice: random.Random) -> None:
        self._app = app
        self._ledger = ledger
        self._scale = scale
        self._dice = dice
        self._stopped = asyncio.Event()
        self._producing: asyncio.Task[None] | None = None
        #: Name of the task, and characters in its argument at most.
        self.task = "chaos.work"
        self.size = 200
        #: Task id -> arguments, of all that was sent.
        self.sent: dict[str, tuple[float, str]] = {}

    def start(self) -> None:
        self._producing = asyncio.create_task(self._produce())

    async def stop(self) -> None:
        """Send nothing more, and wait for the sends that are under way."""
        self._stopped.set()
        if self._producing is not None:
            await self._producing

    async def send(self, *, pause: float | None = None, task_id: str | None = None) -> str:
        """Send one task, which the ledger sees; returns its id. What the send raises stands there alone.

        `pause` is how long the task lasts; by default as the scale has it.
        """
        task_id = task_id or new_id()
        lasting = round(self._dice.uniform(*self._scale.pause), 3) if pause is None else pause
        body = f"{self._dice.getrandbits(64):x}".ljust(self._dice.randint(16, self.size), "x")
        self.sent[task_id] = lasting, body
        self._ledger.write("TRY", task_id, checksum(lasting, body))
        try:
            await self.publish(task_id)
        except AsyncqError as error:
            self._ledger.write("NACK", task_id, _public_name(error))
        else:
            self._ledger.write("ACK", task_id)
        return task_id

    async def send_burst(self, count: int) -> list[str]:
        """Send so many at once."""
        return await asyncio.gather(*(self.send() for _ in range(count)))

    async def publish(self, task_id: str) -> None:
        """Publish a task's message, once more if it was sent before, and off the record."""
        call: Any = self._app.tasks[self.task]
        await call.options(task_id=task_id).send(*self.sent[task_id])

    async def _produce(self) -> None:
        loop = asyncio.get_running_loop()
        start, sent = loop.time(), 0
        async with asyncio.TaskGroup() as sends:
            while not self._stopped.is_set():
                due = int((loop.time() - start) * self._scale.rate)
                for _ in range(due - sent):
                    sends.create_task(self.send())
                sent = due
                try:
                    async with asyncio.timeout(1 / self._scale.rate):
                        await self._stopped.wait()
                except TimeoutError:
                    pass


def _public_name(error: AsyncqError) -> str:
    """What users know it as: drivers have subclasses of their own."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "asyncq.errors")


class Reader:
    """Looks for the results of what was sent, and records the first final one of each."""

    def __init__(self, backend: ResultBackend, ledger: Ledger) -> None:
        self._backend = backend
        self._ledger = ledger
        self._seen: set[str] = set()

    async def run(self) -> None:
        """For ever, through every loss of the back end."""
        while True:
            with contextlib.suppress(AsyncqError):
                await self._look()
            await asyncio.sleep(_LOOK)

    async def results(self, task_ids: Sequence[str]) -> dict[str, str]:
        """Task id -> `state value`, of those that have a result."""
        found: dict[str, str] = {}
        for start in range(0, len(task_ids), _BATCH):
            batch = task_ids[start : start + _BATCH]
            for task_id, raw in zip(batch, await self._backend.get(batch), strict=True):
                if raw is not None:
                    record = decode_result(raw)
                    value = record.result if isinstance(record.result, str) else ""
                    found[task_id] = f"{record.status} {value}"
        return found

    async def _look(self) -> None:
        wanted = self._ledger.ids("END") - self._seen
        for task_id, result in (await self.results(sorted(wanted))).items():
            if result.partition(" ")[0] in READY_STATES:
                self._seen.add(task_id)
                self._ledger.write("STORED", task_id, result)
