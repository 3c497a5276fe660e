"""Writes records to the result backend, in batches, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import anyio

from asyncq.driver import ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError, BackendError, BackendFull
from asyncq.worker._attempt import Attempt
from asyncq.worker._backoff import Backoff
from asyncq.worker._record_encoder import RecordEncoder

logger = logging.getLogger(__name__)

#: What is left of a batch.
Current: TypeAlias = Callable[[], Awaitable[Sequence[StoredResult]]]


class Recorder:
    """The way of every record to the backend: one batch at a time, so that the last word on a task stays the last."""

    def __init__(self, backend: ResultBackend, dice: random.Random) -> None:
        self._backend = backend
        self._backoff = Backoff(dice)
        self._pending: list[tuple[StoredResult, asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()
        self._writing = asyncio.Lock()

    async def store(self, records: Sequence[StoredResult]) -> dict[int, BackendError]:
        """Store a batch; while the backend is away or full, wait for it.

        Returns, by position, those that it refuses for good.
        """
        return await self.store_current(_always(records))

    async def store_current(self, current: Current) -> dict[int, BackendError]:
        """The same for a batch that may shrink while it waits: before each try, `current` says what is left of it."""
        async with self._writing:
            return await self._store(current)

    async def store_one(self, record: StoredResult) -> None:
        """Store a record together with others of the moment (STARTED, PROGRESS).

        Cancelled before it was written, it is not written any more: its task may have ended by then.
        """
        done = asyncio.get_running_loop().create_future()
        self._pending.append((record, done))
        self._wanted.set()
        await done

    async def run(self) -> None:
        """Write what `store_one` was given."""
        while True:
            await self._wanted.wait()
            async with self._writing:
                self._wanted.clear()
                batch = [(record, done) for record, done in self._pending if not done.done()]
                self._pending = []
                if batch:
                    await self._store(_always([record for record, _ in batch]))
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _store(self, current: Current) -> dict[int, BackendError]:
        while records := await current():
            try:
                await self._backend.store(records)
            except (BackendConnectionError, BackendFull) as error:
                if not self._backoff.failing:
                    logger.warning("%d results wait for the backend: %s", len(records), error)
                await anyio.sleep(self._backoff.next_delay())
            except BackendError as error:
                if len(records) == 1:
                    task_id = records[0].task_id
                    logger.error("The backend refuses a record of task %s: %s", task_id, error)  # noqa: TRY400 - no fault
                    return {0: error}
                return await self._store_one_by_one(records)
            else:
                if self._backoff.reset():
                    logger.info("The result backend takes results again")
                return {}
        return {}

    async def _store_one_by_one(self, records: Sequence[StoredResult]) -> dict[int, BackendError]:
        """Find those that are at fault, and save the others."""
        refused: dict[int, BackendError] = {}
        for position, record in enumerate(records):
            for error in (await self._store(_always([record]))).values():
                refused[position] = error
        return refused


class InterimStates:
    """Stores what running tasks say of themselves: STARTED, PROGRESS, states of their own."""

    def __init__(self, records: RecordEncoder, recorder: Recorder | None) -> None:
        self._records = records
        self._recorder = recorder

    async def store_state(self, attempt: Attempt, state: str, meta: Any) -> None:
        """Store one, where there is a backend. Raises EncodeError."""
        record = self._records.of(attempt, state, meta)
        if record is not None and self._recorder is not None:
            await self._recorder.store_one(record)


def _always(records: Sequence[StoredResult]) -> Current:
    async def current() -> Sequence[StoredResult]:
        return records

    return current
