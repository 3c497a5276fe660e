"""The memory drivers from two event loops in two threads, as `send_sync` and a worker in one process use them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asyncq._clock import system_environment
from asyncq.driver import Ack, ConsumerOptions, DriverConfig, Publication, Queue, StoredResult
from asyncq.protocol import WireMessage
from asyncq.testing._broker_kit import body
from asyncq.testing._kit import within
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker

COUNT = 200


def test_each_wakes_the_other() -> None:
    """A worker's loop answers each message with a result; a client's loop in another thread waits for each."""
    config = DriverConfig(url="memory://", app="threads", environment=system_environment(), shared=dict[str, Any]())
    working = threading.Thread(target=lambda: asyncio.run(work(config)))
    working.start()
    try:
        asyncio.run(call(config))
    finally:
        working.join(20)
    assert not working.is_alive()


async def work(config: DriverConfig) -> None:
    broker, backend = MemoryBroker(config), MemoryBackend(config)
    consumer = broker.consume([Queue(name="celery")], ConsumerOptions(node="worker@contract"))
    for _ in range(COUNT):
        (delivery,) = await within(consumer.receive(1))
        task_id = body(delivery).decode()
        await backend.store([StoredResult(task_id=task_id, record=body(delivery), status="SUCCESS")])
        assert await consumer.settle([Ack(delivery)]) == []
    await broker.close()


async def call(config: DriverConfig) -> None:
    broker, backend = MemoryBroker(config), MemoryBackend(config)
    for number in range(COUNT):
        task_id = f"task-{number}"
        async with backend.watch([task_id]) as changes:
            message = WireMessage(body=task_id.encode(), headers={})
            await broker.publish([Publication(message=message, queue="celery")])
            assert await within(anext(changes)) == (task_id, task_id.encode())
    await broker.close()
