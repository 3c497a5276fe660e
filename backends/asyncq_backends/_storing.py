"""Storing records one by one, each under a condition: for stores that know no other way to keep a SUCCESS."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from asyncq.driver import StoredResult
from asyncq_brokers._clients.aws import together

__all__ = ["LastVersions", "store_each"]

#: Tasks whose last unfinished write is remembered.
_REMEMBERED = 10_000


async def store_each(
    results: Sequence[StoredResult], store_one: Callable[[StoredResult], Awaitable[bool]], *, places: asyncio.Semaphore
) -> list[bool]:
    """Store them side by side, as many as there are `places`; records of one task one after the other.

    A refused one doesn't keep the others away.
    """
    by_task: dict[str, list[int]] = {}
    for position, result in enumerate(results):
        by_task.setdefault(result.task_id, []).append(position)
    outcome = [False] * len(results)

    async def store(positions: Sequence[int]) -> None:
        for position in positions:
            async with places:
                outcome[position] = await store_one(results[position])

    await together(map(store, by_task.values()))
    return outcome


class LastVersions:
    """How the store names the unfinished records that we wrote last: the next write of a task then needs no look."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, str] = OrderedDict()

    def take(self, task_id: str) -> str | None:
        """The version, as far as it is known; known no longer."""
        return self._versions.pop(task_id, None)

    def note(self, result: StoredResult, version: str) -> None:
        """This was written. What stands for good need not be remembered."""
        if result.status != "SUCCESS":
            self._versions[result.task_id] = version
            if len(self._versions) > _REMEMBERED:
                self._versions.popitem(last=False)

    def forget(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._versions.pop(task_id, None)
