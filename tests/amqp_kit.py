"""The verbs that the tests on RabbitMQ are written in."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from asyncq._clock import new_id, system_environment
from asyncq.driver import Ack, ConsumerOptions, Delivery, DriverConfig, Queue
from asyncq.protocol import Properties, WireMessage
from asyncq_brokers.amqp import AmqpBroker

#: Seconds after which a wait counts as a hang.
BOUND = 15.0


class NewBroker(Protocol):
    """Makes a broker on the test's virtual host and opens it; closed at the end of the test."""

    async def __call__(self, *, timeout: float = 10.0, **options: Any) -> AmqpBroker: ...


def make_broker(url: str, *, timeout: float = 10.0, **options: Any) -> AmqpBroker:
    """A broker that is not open yet; the caller closes it."""
    return AmqpBroker(
        DriverConfig(url=url, app="tests", environment=system_environment(), timeout=timeout, options=options)
    )


def queue_name() -> str:
    """A queue that no other test uses."""
    return f"q-{new_id()[:8]}"


def message(body: bytes = b"0", *, priority: int | None = None) -> WireMessage:
    return WireMessage(body=body, headers={"task": "tests.task"}, properties=Properties(priority=priority))


async def take_one(broker: AmqpBroker, queue: Queue) -> Delivery:
    """Receive a message and acknowledge it; nothing is held afterwards."""
    consumer = broker.consume([queue], ConsumerOptions(node="tests@host"))
    try:
        async with asyncio.timeout(BOUND):
            (delivery,) = await consumer.receive(1)
            assert await consumer.settle([Ack(delivery)]) == []
    finally:
        await consumer.close()
    return delivery
