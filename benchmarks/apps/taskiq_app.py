"""The application on taskiq, once for each of two brokers of taskiq-redis."""

from __future__ import annotations

import asyncio

from taskiq import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from . import environment
from .sender import Sender, shares


async def nothing() -> None: ...


async def mark(name: str) -> None:
    environment.mark(name)


class TaskiqSender:
    def __init__(self, broker: AsyncBroker) -> None:
        self.broker = broker
        if environment.RESULTS:
            broker.with_result_backend(RedisAsyncResultBackend(environment.URL))
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


_on_list = TaskiqSender(ListQueueBroker(environment.URL))
_on_stream = TaskiqSender(RedisStreamBroker(environment.URL))

#: What the worker commands name.
listed, streamed = _on_list.broker, _on_stream.broker


async def list_sender() -> Sender:
    await listed.startup()
    return _on_list


async def stream_sender() -> Sender:
    await streamed.startup()
    return _on_stream
