"""The Protocols that a result backend implements, and what crosses them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from msgspec import Struct


class BackendCapabilities(Struct, frozen=True, kw_only=True):
    """What a result backend can't do, and what it does at a price."""

    #: Other processes can read the same results.
    shared: bool
    #: `watch` is told of changes (else it polls).
    push: bool
    #: The largest record in bytes.
    max_record_bytes: int | None = None
    #: Each request costs money: who only looks whether there is something to do looks rarely.
    billed: bool = False


class StoredResult(Struct, kw_only=True):
    """One record on its way in."""

    task_id: str
    #: The encoded record (`asyncq.protocol.encode_result`): what readers get, byte for byte.
    record: bytes
    #: The state that the record says, so that a driver needs not decode it.
    status: str
    #: Seconds until it expires; None keeps it for ever.
    expires: float | None = None
    #: Whom the sender of the task has named to be told; None where nobody was. For backends that keep no records.
    reply_to: str | None = None


class ResultBackend(Protocol):
    """Records of tasks, by task id. An instance belongs to the event loop that first awaits it."""

    @property
    def capabilities(self) -> BackendCapabilities: ...

    @property
    def address(self) -> str:
        """Where it is, for people: a URL without secrets, or a file's path."""
        ...

    async def open(self) -> None:
        """Connect and check. Raises BackendConnectionError, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Release every connection. May be called twice."""
        ...

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        """Write records, tell watchers. False for a member whose task had a SUCCESS record, which is never overwritten.

        The later of two records of one task in a batch wins, by the same rule.
        Raises BackendConnectionError (fate unknown: store again), BackendFull.
        """
        ...

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """The records as they were stored; None where there is none (never stored, expired, forgotten)."""
        ...

    def watch(self, task_ids: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """Follow some tasks: `async with backend.watch(ids) as changes: async for task_id, record in changes: …`.

        Once entered, no later change is missed for good: the iterator gives each task's record of that moment, where
        there is one, then each change; of several changes in a row it may give the last alone. It goes on through
        reconnects, never ends by itself, and looks for itself now and then, since some writers announce nothing.
        """
        ...

    async def forget(self, task_ids: Sequence[str]) -> None:
        """Delete records."""
        ...


@runtime_checkable
class GroupKeeping(Protocol):
    """A result backend that keeps groups where Celery does. All methods raise BackendError."""

    async def save_group(self, group_id: str, saved: bytes, *, expires: float | None = None) -> None:
        """Keep a group (`asyncq.protocol.encode_group`) for `expires` seconds; None keeps it for ever."""
        ...

    async def saved_group(self, group_id: str) -> bytes | None:
        """What was saved; None where nothing was, or where it has expired."""
        ...

    async def forget_group(self, group_id: str) -> None:
        """Delete it."""
        ...


@runtime_checkable
class Replying(Protocol):
    """A result backend that keeps no records: they go to whoever sent the task, and to nobody else."""

    async def reply_address(self) -> str:
        """The `reply_to` of messages whose results this instance shall get. It hears them from now on.

        Raises BackendConnectionError.
        """
        ...
