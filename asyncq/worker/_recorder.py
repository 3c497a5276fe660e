"""Writes records to the result backend, in batches, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

import anyio

from asyncq.driver import ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError, BackendError, BackendFull
from asyncq.worker._backoff import Backoff

logger = logging.getLogger(__name__)


class Recorder:
    """The way of every record to the backend."""

    def __init__(self, backend: ResultBackend, dice: random.Random) -> None:
        self._backend = backend
        self._backoff = Backoff(dice)
        self._pending: list[tuple[StoredResult, asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()

    async def store(self, records: Sequence[StoredResult]) -> list[bool]:
        """Store a batch; while the backend is away or full, wait for it. False where a SUCCESS stood already."""
        while True:
            try:
                stored = await self._backend.store(records)
            except (BackendConnectionError, BackendFull) as error:
                if not self._backoff.failing:
                    logger.warning("%d results wait for the backend: %s", len(records), error)
                await anyio.sleep(self._backoff.next_delay())
            except BackendError:
                if len(records) > 1:  # one of them is at fault: find it, and save the others
                    return [(await self.store([record]))[0] for record in records]
                logger.exception("The backend refuses the result of task %s: it is dropped", records[0].task_id)
                return [False]
            else:
                if self._backoff.reset():
                    logger.info("The result backend takes results again")
                return stored

    async def store_one(self, record: StoredResult) -> None:
        """Store a record together with others of the moment (STARTED, PROGRESS)."""
        done = asyncio.get_running_loop().create_future()
        self._pending.append((record, done))
        self._wanted.set()
        await done

    async def run(self) -> None:
        """Write what `store_one` was given."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._pending = self._pending, []
            await self.store([record for record, _ in batch])
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
