"""Reads what became of tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from msgspec import Struct

from asyncq._client import Clients, NoBackend
from asyncq._portal import Portal
from asyncq._revoking import Revocation, keep_revocation
from asyncq._settings import Settings
from asyncq.driver import Clock, Coordination, Environment, Fact, GroupKeeping, StoredResult
from asyncq.errors import ConfigurationError, DecodeError, TaskRevokedError
from asyncq.protocol import (
    READY_STATES,
    ExceptionRegistry,
    Limits,
    ResultRecord,
    SavedGroup,
    decode_group,
    decode_result,
    describe_exception,
    encode_group,
    encode_result,
)

__all__ = ["ResultReader", "TaskState", "revoked_record"]

# `Any` below: a record holds whatever a task returned.


class TaskState(Struct, frozen=True, kw_only=True):
    """A task's state at one moment."""

    #: `PENDING` (nothing is known), `STARTED`, `RETRY`, `SUCCESS`, `FAILURE`, `REVOKED`, or a state of the task's own.
    status: str
    #: The value of SUCCESS; the exception of FAILURE, RETRY and REVOKED; the meta of any other state.
    info: Any = None
    #: Text of the worker's traceback.
    traceback: str | None = None
    #: The task's name, where records are stored with it (`result_extended`).
    task: str | None = None
    #: Id of the task that has sent it.
    parent_id: str | None = None
    #: What it has sent, as Celery writes it down; `AsyncResult.children` makes handles of it.
    children: Sequence[Any] = ()

    @property
    def ready(self) -> bool:
        """The state is final."""
        return self.status in READY_STATES


#: Seconds. A fact must end some day.
_VERY_LONG = 100 * 365 * 86400.0

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
        async with aclosing(self.changes([task_id])) as changes:
            async for _, state in changes:
                yield state
                if state.ready:
                    return

    async def changes(self, task_ids: Sequence[str]) -> AsyncGenerator[tuple[str, TaskState]]:
        """The states of some tasks, where they are known, then each change; without an end."""
        backend = await self._clients.current().backend()
        async with backend.watch(task_ids) as changes:
            async for task_id, record in changes:
                yield task_id, self._read(record)

    async def final_state(self, task_id: str, before: Sequence[str] = ()) -> TaskState:
        """The final state, as soon as there is one; or that of one of those `before` it, when it says that the task
        will never run.
        """
        async with aclosing(self.changes([task_id, *before])) as changes:
            async for changed, state in changes:
                if state.ready and (changed == task_id or state.status != "SUCCESS"):
                    return state
        raise AssertionError("a watch doesn't end by itself")

    async def many(self, task_ids: Sequence[str]) -> list[TaskState]:
        """The states now, in order."""
        backend = await self._clients.current().backend()
        return [_PENDING if record is None else self._read(record) for record in await backend.get(task_ids)]

    async def save_group(self, group: SavedGroup) -> None:
        """Keep it as long as results: where Celery does, else where revocations are kept."""
        expires = self._settings.result_expires
        saved = encode_group(
            group,
            serializer=self._settings.result_serializer,
            compression=self._settings.result_compression,
            limits=self._limits,
        )
        keeper = await self._keeper()
        if isinstance(keeper, GroupKeeping):
            await keeper.save_group(group.group_id, saved, expires=expires)
        else:
            ttl = _VERY_LONG if expires is None else expires
            await keeper.put([Fact(key=_fact(group.group_id), value=saved, ttl=ttl)])

    async def saved_group(self, group_id: str) -> SavedGroup | None:
        """What was kept of a group. Raises DecodeError."""
        keeper = await self._keeper()
        if isinstance(keeper, GroupKeeping):
            raw = await keeper.saved_group(group_id)
        else:
            (raw,) = await keeper.get([_fact(group_id)])
        return None if raw is None else decode_group(raw, limits=self._limits, accept=self._accept)

    async def forget_group(self, group_id: str) -> None:
        """Delete what was kept of it."""
        try:
            keeper = await self._keeper()
        except ConfigurationError:  # then nothing was
            return
        if isinstance(keeper, GroupKeeping):
            await keeper.forget_group(group_id)
        else:
            await keeper.delete([_fact(group_id)])

    async def _keeper(self) -> GroupKeeping | Coordination:
        """Raises ConfigurationError where nothing can be kept."""
        client = self._clients.current()
        backend = await client.backend()
        return backend if isinstance(backend, GroupKeeping) else await client.coordination()

    async def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the records."""
        await (await self._clients.current().backend()).forget(task_ids)

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
        name: object = record.extra.get("name")
        return TaskState(
            status=record.status,
            info=info,
            traceback=text,
            task=name if isinstance(name, str) else None,
            parent_id=record.parent_id,
            children=record.children or (),
        )


def _fact(group_id: str) -> str:
    return f"group.{group_id}"


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
