"""The application on asyncq."""

from __future__ import annotations

import asyncio

from asyncq import AsyncQ, Context, chain, chord

from . import environment
from .sender import CanvasSender, shares

#: Calls of one `send_many`.
_BATCH = 500

queue = AsyncQ("benchmark", broker=environment.URL, backend=environment.URL if environment.RESULTS else None)


@queue.task
async def nothing() -> None: ...


@queue.task
async def mark(name: str) -> None:
    environment.mark(name)


@queue.task
async def gather(results: list[None], name: str) -> int:
    environment.mark(name)
    return len(results)


@queue.task
async def spread(ctx: Context, size: int, name: str) -> int:
    raise ctx.replace(chord((nothing.s() for _ in range(size)), gather.s(name=name)))


class AsyncQSender:
    async def singles(self, count: int) -> None:
        async def send(share: int) -> None:
            for _ in range(share):
                await nothing.send()

        await asyncio.gather(*map(send, shares(count)))

    async def batch(self, count: int) -> None:
        for start in range(0, count, _BATCH):
            await queue.send_many([nothing.s() for _ in range(min(_BATCH, count - start))])

    async def mark(self, name: str) -> None:
        await mark.send(name)

    async def round_trip(self) -> None:
        await (await nothing.send()).get(timeout=10)

    async def chord(self, size: int, name: str) -> None:
        await chord((nothing.s() for _ in range(size)), gather.s(name=name)).send()

    async def replaced(self, size: int, name: str) -> None:
        await spread.send(size, name)

    async def chain(self, length: int, name: str) -> None:
        await chain([*(nothing.si() for _ in range(length)), mark.si(name)]).send()

    async def close(self) -> None:
        await queue.aclose()


async def sender() -> CanvasSender:
    return AsyncQSender()
