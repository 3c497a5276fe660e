"""What became of a task, for those who sent it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, overload

from msgspec import Struct

from asyncq._client import Clients, NoBackend
from asyncq._portal import Portal
from asyncq._revoking import Revocation, keep_revocation
from asyncq._settings import Settings
from asyncq.driver import Clock, Environment, StoredResult
from asyncq.errors import DecodeError, ResultTimeout, TaskRevokedError
from asyncq.protocol import (
    READY_STATES,
    ExceptionRegistry,
    Limits,
    ResultRecord,
    decode_result,
    describe_exception,
    encode_result,
)

__all__ = ["AsyncResult", "ResultReader", "TaskState", "revoked_record"]

R_co = TypeVar("R_co", covariant=True)

# `Any` below: a record holds whatever a task returned.


class TaskState(Struct, frozen=True, kw_only=True):
    """A task's state at one moment."""

    #: `PENDING` (nothing is known), `STARTED`, `RETRY`, `SUCCESS`, `FAILURE`, `REVOKED`, or a state of the task's own.
    status: str
    #: The value of SUCCESS; the exception of FAILURE, RETRY and REVOKED; the meta of any other state.
    info: Any = None
    #: Text of the worker's traceback.
    traceback: str | None = None

    @property
    def ready(self) -> bool:
        """The state is final."""
        return self.status in READY_STATES


_PENDING = TaskState(status="PENDING")
_WITH_EXCEPTION = frozenset({"FAILURE", "RETRY", "REVOKED"})


class ResultReader:
    """One app's way of reading results."""

    def __init__(
        self,
        clients: Clients,
        portal: Portal,
        exceptions: Iterable[type[Exception]],
        environment: Environment,
        settings: Settings,
    ) -> None:
        self._clients = clients
        self._environment = environment
        self._registry = ExceptionRegistry(exceptions)
        self.portal: Portal = portal
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Read and write as these settings say."""
        self._settings: Settings = settings
        self._limits: Limits = settings.limits
        accept = settings.accept_content if settings.result_accept_content is None else settings.result_accept_content
        self._accept: tuple[str, ...] = tuple({*accept, settings.result_serializer})

    async def state(self, task_id: str) -> TaskState:
        """The state now. Raises ConfigurationError without a backend, BackendError, DecodeError."""
        backend = await self._clients.current().backend()
        (record,) = await backend.get([task_id])
        return _PENDING if record is None else self._read(record)

    async def states(self, task_id: str) -> AsyncGenerator[TaskState]:
        """The state now, where one is known, then each change, up to the final one."""
        backend = await self._clients.current().backend()
        async with backend.watch([task_id]) as changes:
            async for _, record in changes:
                state = self._read(record)
                yield state
                if state.ready:
                    return

    async def final_state(self, task_id: str) -> TaskState:
        """The final state, as soon as there is one."""
        backend = await self._clients.current().backend()
        async with backend.watch([task_id]) as changes:
            async for _, record in changes:
                state = self._read(record)
                if state.ready:
                    return state
        raise AssertionError("a watch doesn't end by itself")

    async def forget(self, task_id: str) -> None:
        """Delete the record."""
        await (await self._clients.current().backend()).forget([task_id])

    async def ended(self, task_ids: Sequence[str]) -> set[str]:
        """Which of these have a final state; none where results are kept nowhere."""
        try:
            backend = await self._clients.current().backend()
        except NoBackend:
            return set()
        records = zip(task_ids, await backend.get(task_ids), strict=True)
        return {task_id for task_id, record in records if record is not None and self._is_final(record)}

    def _is_final(self, raw: bytes) -> bool:
        try:
            return self._read(raw).ready
        except DecodeError:  # another program's, of which nobody can say
            return False

    async def revoke(self, task_id: str, *, terminate: bool) -> None:
        """Keep a revocation, and tell those who wait where a worker may not do so for long."""
        client = self._clients.current()
        coordination = await client.coordination()
        revocation = Revocation(task_id, terminate=terminate)
        await keep_revocation(coordination, revocation, new_id=self._environment.new_id)
        try:
            backend = await client.backend()
        except NoBackend:
            return
        (record,) = await backend.get([task_id])
        status = "PENDING" if record is None else self._read(record).status
        # A task in either state may be running all the same, if it tracks no start. Terminated, it ends as this says;
        # otherwise the worker that meets its message says it.
        if terminate and status in {"PENDING", "RETRY"}:
            await backend.store([revoked_record(task_id, self._settings, self._environment.clock)])

    def _read(self, raw: bytes) -> TaskState:
        record: ResultRecord = decode_result(raw, limits=self._limits, accept=self._accept)
        # Other programs' workers store a traceback that is no text, or the exception of a RETRY as null.
        traceback: object = record.traceback
        text = traceback if isinstance(traceback, str) else None
        info = record.result
        if record.status in _WITH_EXCEPTION and (info is not None or record.status != "RETRY"):
            info = self._registry.revive(info, traceback=text)
        return TaskState(status=record.status, info=info, traceback=text)


def revoked_record(task_id: str, settings: Settings, clock: Clock) -> StoredResult:
    """What is stored of a task that nobody will run, where no worker is to say so."""
    record = ResultRecord(
        task_id=task_id,
        status="REVOKED",
        result=describe_exception(TaskRevokedError("revoked")),
        date_done=datetime.fromtimestamp(clock.wall(), settings.tzinfo),
    )
    raw = encode_result(record, serializer=settings.result_serializer, compression=settings.result_compression)
    return StoredResult(task_id=task_id, record=raw, status="REVOKED", expires=settings.result_expires)


class AsyncResult(Generic[R_co]):
    """A handle on a task that was sent; it may be made anew from the id, anywhere: `queue.result(task_id)`.

    Every method that asks the backend raises ConfigurationError where results are kept nowhere, and BackendError.
    """

    __slots__ = ("_ignored", "_reader", "duplicate", "task_id")

    def __init__(self, task_id: str, reader: ResultReader, *, ignored: bool = False, duplicate: bool = False) -> None:
        #: The task's id.
        self.task_id: str = task_id
        #: Nothing was sent: the task is unique (or its idempotency key was used), and this is the one that was there.
        self.duplicate: bool = duplicate
        self._reader = reader
        self._ignored = ignored

    def __repr__(self) -> str:
        return f"<AsyncResult {self.task_id}>"

    @property
    def id(self) -> str:
        """The task's id, as Celery calls it."""
        return self.task_id

    @overload
    async def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    async def get(self, timeout: float | None = None, *, propagate: bool) -> R_co | Exception: ...
    async def get(self, timeout: float | None = None, *, propagate: bool = True) -> R_co | Exception:
        """Wait for the task to end and return its value, or raise its exception.

        `timeout` is in seconds: ResultTimeout when they are over, while the task itself goes on; None waits for ever.
        With `propagate=False` the task's exception is returned, not raised. Of a call that ignores its result this is
        None, at once.
        """
        if self._ignored:
            return None  # type: ignore[return-value]  # the caller asked for no result
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                state = await self._reader.final_state(self.task_id)
        except TimeoutError:
            if not scope.expired():
                raise
            raise ResultTimeout(f"task {self.task_id} has not ended within {timeout:g} seconds") from None
        if propagate and isinstance(state.info, Exception) and state.status != "SUCCESS":
            raise state.info
        return state.info

    @overload
    def get_sync(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    def get_sync(self, timeout: float | None = None, *, propagate: bool) -> R_co | Exception: ...
    def get_sync(self, timeout: float | None = None, *, propagate: bool = True) -> R_co | Exception:
        """`get` for sync code. Raises RuntimeError in a thread whose event loop runs."""

        async def get() -> R_co | Exception:
            return await self.get(timeout, propagate=propagate)

        return self._reader.portal.call(get, instead="await result.get()")

    async def state(self) -> TaskState:
        """Status, info and traceback of one moment."""
        return await self._reader.state(self.task_id)

    async def status(self) -> str:
        """`PENDING` while nothing is known, which an id that never was, or that expired, is as well."""
        return (await self.state()).status

    async def ready(self) -> bool:
        """True when the task has ended, whichever way."""
        return (await self.state()).ready

    async def info(self) -> Any:
        """The value of SUCCESS, the exception of FAILURE, RETRY and REVOKED, the meta of any other state."""
        return (await self.state()).info

    async def traceback(self) -> str | None:
        """Text of the worker's traceback, of a task that failed."""
        return (await self.state()).traceback

    async def forget(self) -> None:
        """Delete what is stored of the task's result."""
        await self._reader.forget(self.task_id)

    async def revoke(self, *, terminate: bool = False) -> None:
        """Ask that the task shall not run: REVOKED instead, whether it is queued, parked or comes back for a retry.

        With `terminate` it is cancelled where it runs already (within a second or so), and those who wait are told at
        once. Without it they are told as soon as a worker meets its message: nobody else knows whether it runs, and
        then it ends as it ends. Kept for 30 days, so that a worker that is away honours it, too. Celery's workers know
        nothing of it.

        Raises ConfigurationError where neither the broker nor the backend can keep it, BrokerError, BackendError.
        """
        await self._reader.revoke(self.task_id, terminate=terminate)

    def __aiter__(self) -> AsyncIterator[TaskState]:
        """Each change of state until the final one, which comes last: `async for state in result`.

        Of several changes in a row the last alone may be seen.
        """
        return self._reader.states(self.task_id)
