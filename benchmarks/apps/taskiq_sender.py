"""The application on taskiq, on whichever broker."""

from __future__ import annotations

import asyncio

from taskiq import AsyncBroker

from . import environment
from .sender import shares


async def nothing() -> None: ...


async def mark(name: str) -> None:
    environment.mark(name)


class TaskiqSender:
    def __init__(self, broker: AsyncBroker) -> None:
        self.broker = broker
        self._nothing = broker.register_task(nothing, task_name="nothing")
        self._mark = broker.register_task(mark, task_name="mark")

    async def singles(self, count: int) -> None:
        async def send(share: int) -> None:
            for _ in range(share):
                await self._nothing.kiq()

        await asyncio.gather(*map(send, shares(count)))

    async def batch(self, count: int) -> None:
        await self.singles(count)  # there is no other way

    async def mark(self, name: str) -> None:
        await self._mark.kiq(name)

    async def round_trip(self) -> None:
        task = await self._nothing.kiq()
        await task.wait_result(check_interval=0.001, timeout=10)  # it polls; by default every 0.2 s

    async def close(self) -> None:
        await self.broker.shutdown()
