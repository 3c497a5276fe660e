"""What a test needs to look at what an app has sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from asyncq import AsyncQ
from asyncq.driver import DriverConfig, Publication
from asyncq.protocol import TaskMessage, WireMessage, decode_envelope, decode_task
from asyncq_brokers.memory import MemoryBroker


async def wire_messages(queue: AsyncQ, name: str = "celery") -> list[WireMessage]:
    """What stands on a queue, as it travels."""
    broker = queue.make_broker()
    await broker.open()
    try:
        stored = await broker.peek(name, "ready")
    finally:
        await broker.close()
    return [each.content if isinstance(each.content, WireMessage) else decode_envelope(each.content) for each in stored]


async def messages(queue: AsyncQ, name: str = "celery") -> list[TaskMessage]:
    """What stands on a queue, decoded."""
    return [decode_task(each) for each in await wire_messages(queue, name)]


class GatedBroker(MemoryBroker):
    """A memory broker whose `publish` waits at a gate, and tells what it was given."""

    def __init__(self, config: DriverConfig) -> None:
        super().__init__(config)
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[list[Publication]] = []
        self.called = asyncio.Event()
        self.opened = 0
        self.closed = 0
        #: Called with each batch before it is stored; may raise.
        self.refuse: Callable[[Sequence[Publication]], Any] = lambda batch: None

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(0)
        await super().open()

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def publish(self, publications: Sequence[Publication]) -> None:
        self.batches.append(list(publications))
        self.called.set()
        await self.gate.wait()
        self.refuse(publications)
        await super().publish(publications)
