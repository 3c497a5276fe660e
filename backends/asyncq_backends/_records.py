"""What stored records say, whoever wrote them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice

from asyncq.errors import BackendError, DecodeError
from asyncq.protocol import SavedGroup, decode_group, decode_part, decode_result

__all__ = ["group_of", "records_of_group", "status_of"]

#: Serialisers that a foreign record may be decoded with, to see its state. Pickle is not among them.
_ACCEPT = ("json", "msgpack", "yaml")

#: Records that are read at a time.
_BATCH = 500


def status_of(record: bytes | None) -> str | None:
    """The record's state; None for what can't be decoded (a pickle, a stranger's key), and where there is none."""
    if record is None:
        return None
    try:
        return decode_result(record, accept=_ACCEPT).status
    except DecodeError:
        return None


def group_of(saved: bytes) -> SavedGroup:
    """A saved group, whoever saved it. Raises DecodeError."""
    return decode_group(saved, accept=_ACCEPT)


async def records_of_group(
    saved: bytes,
    get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
    parts: Callable[[], AsyncIterator[Sequence[bytes]]],
) -> AsyncGenerator[list[bytes]]:
    """The records of a saved group's tasks, in its order; the part where a task keeps no record.

    Raises BackendError when there is neither (any more).
    """
    try:
        group = group_of(saved)
    except DecodeError as error:
        raise BackendError(f"the saved header of a chord can't be read: {error}") from error
    remaining = group.task_ids()
    by_task: dict[str, bytes] | None = None
    while task_ids := list(islice(remaining, _BATCH)):
        records = await get(task_ids)
        if None in records and by_task is None:
            by_task = await _by_task(parts())
        yield [
            _kept(task_id, (by_task or {}).get(task_id) if record is None else record)
            for task_id, record in zip(task_ids, records, strict=True)
        ]


def _kept(task_id: str, record: bytes | None) -> bytes:
    if record is None:
        raise BackendError(f"the result of task {task_id}, which a chord needs, is not there any more")
    return record


async def _by_task(parts: AsyncIterator[Sequence[bytes]]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    async for batch in parts:
        for member in batch:
            try:
                found[decode_part(member, accept=_ACCEPT).task_id] = member
            except DecodeError:
                continue
    return found
