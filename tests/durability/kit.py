"""Work that a test sends, and what must have become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from asyncq import AsyncQ, AsyncResult
from processes import Program


class MakeWorker(Protocol):
    """Makes a worker process on the test's store; the options are those of `AsyncQ.worker`."""

    def __call__(self, **options: Any) -> Program: ...


async def send(client: AsyncQ, numbers: Sequence[int], *, pause: float) -> list[AsyncResult[Any]]:
    """Send one call for each number, in one batch, each of which lasts `pause` seconds."""
    work: Any = client.tasks["durability.work"]
    return await client.send_many([work.s(number, pause) for number in numbers])


async def values(results: Sequence[AsyncResult[Any]], *, timeout: float = 40.0) -> list[Any]:
    """Wait for all results at once."""
    return await asyncio.gather(*(result.get(timeout) for result in results))


def ids(results: Sequence[AsyncResult[Any]]) -> set[str]:
    return {result.id for result in results}


async def is_settled(client: AsyncQ) -> bool:
    """Nothing waits, nothing is held, nothing was given up."""
    broker = client.make_broker()
    await broker.open()
    try:
        depth = await broker.depth("celery")
    finally:
        await broker.close()
    return (depth.ready, depth.in_flight, depth.parked, depth.dead) == (0, 0, 0, 0)
