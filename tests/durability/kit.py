"""Work that a test sends, and what must have become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from asyncq import AsyncQ, AsyncResult
from asyncq.errors import BrokerConnectionError
from chaos.ledger import Ledger
from processes import Program
from waiting import Gate


class MakeWorker(Protocol):
    """Makes a worker process on the test's store; the options are those of `AsyncQ.worker`."""

    def __call__(self, **options: Any) -> Program: ...


async def send(
    client: AsyncQ, numbers: Sequence[int], *, pause: float, gate: Gate | None = None
) -> list[AsyncResult[Any]]:
    """Send one call for each number, in one batch, each of which lasts `pause` seconds.

    With a gate the last tenth waits for it: until it opens, the work is never done.
    """
    work: Any = client.tasks["durability.work"]
    free = len(numbers) * 9 // 10
    held = None if gate is None else str(gate.path)
    return await client.send_many(
        [work.s(number, pause, None if index < free else held) for index, number in enumerate(numbers)]
    )


async def send_through_outages(client: AsyncQ, numbers: Sequence[int], *, pause: float) -> list[AsyncResult[Any]]:
    """Send one after the other; what the broker did not confirm is sent again, under the same id."""
    results: list[AsyncResult[Any]] = []
    for number in numbers:
        call: Any = client.tasks["durability.work"].options(task_id=f"task-{number}")
        while True:
            try:
                results.append(await call.send(number, pause))
                break
            except BrokerConnectionError:
                await asyncio.sleep(0.01)
    return results


async def values(results: Sequence[AsyncResult[Any]], *, timeout: float = 40.0) -> list[Any]:
    """Wait for all results at once."""
    return await asyncio.gather(*(result.get(timeout) for result in results))


def ids(results: Sequence[AsyncResult[Any]]) -> set[str]:
    return {result.id for result in results}


def interrupted(ledger: Ledger, pid: int) -> set[str]:
    """Tasks that this process began and did not end."""
    own = [record for record in ledger.entries() if record.pid == pid]
    return {record.task_id for record in own if record.kind == "START"} - {
        record.task_id for record in own if record.kind == "END"
    }


def duplicates(ledger: Ledger) -> int:
    """How often a task was ended that had been ended before."""
    ends = ledger.runs("END")
    return ends.total() - len(ends)


async def is_settled(client: AsyncQ) -> bool:
    """Nothing waits, nothing is held, nothing was given up."""
    broker = client.make_broker()
    await broker.open()
    try:
        depth = await broker.depth("celery")
    finally:
        await broker.close()
    return (depth.ready, depth.in_flight, depth.parked, depth.dead) == (0, 0, 0, 0)
