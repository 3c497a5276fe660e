"""What stored records say, whoever wrote them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import islice

from asyncq.errors import BackendError, DecodeError
from asyncq.protocol import decode_group, decode_result

__all__ = ["records_of_group", "status_of"]

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


async def records_of_group(
    saved: bytes, get: Callable[[Sequence[str]], Awaitable[list[bytes | None]]]
) -> AsyncGenerator[list[bytes]]:
    """The records of a saved group's tasks, in its order. Raises BackendError when one isn't there (any more)."""
    try:
        group = decode_group(saved, accept=_ACCEPT)
    except DecodeError as error:
        raise BackendError(f"the saved header of a chord can't be read: {error}") from error
    remaining = group.task_ids()
    while task_ids := list(islice(remaining, _BATCH)):
        records: list[bytes] = []
        for task_id, record in zip(task_ids, await get(task_ids), strict=True):
            if record is None:
                raise BackendError(f"the result of task {task_id}, which a chord needs, is not there any more")
            records.append(record)
        yield records
