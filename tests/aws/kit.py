"""The verbs that the tests on the strict SQS are written in."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asyncq._clock import new_id, system_environment
from asyncq.driver import Ack, Consumer, ConsumerOptions, Delivery, DriverConfig, Publication, Queue
from asyncq.protocol import Properties, TaskMessage, WireMessage, encode_task
from asyncq_brokers.sqs import SqsBroker
from aws.strict_sqs import StrictSqs


def config(url: str = "sqs://", **options: Any) -> DriverConfig:
    """What a driver is made with; the options are `broker_transport_options`."""
    return DriverConfig(url=url, app="tests", environment=system_environment(), options=options)


@asynccontextmanager
async def opened(strict: StrictSqs, **options: Any) -> AsyncGenerator[SqsBroker]:
    """A broker on the strict server, open."""
    broker = SqsBroker(config(strict.url, **{"wait_time_seconds": 1, **options}))
    try:
        await broker.open()
        yield broker
    finally:
        await broker.close()


@contextmanager
def impatient(broker: SqsBroker) -> Generator[None]:
    """Half a second is all that a call gets in the block: for those that fail, since any other may need more."""
    link = broker._queues.link
    usual, link.timeout = link.timeout, 0.5
    try:
        yield
    finally:
        link.timeout = usual


@asynccontextmanager
async def consuming(broker: SqsBroker, *queues: str, lease: float = 60.0) -> AsyncGenerator[Consumer]:
    consumer = broker.consume([Queue(name=name) for name in queues], ConsumerOptions(node="n@h", lease=lease))
    try:
        yield consumer
    finally:
        await consumer.close()


def task(number: int = 0, *, eta: str | None = None, retries: int = 0, **properties: Any) -> WireMessage:
    """A call of `tests.add(number)`, as asyncq sends it."""
    message = TaskMessage(task="tests.add", id=new_id(), args=[number], properties=Properties(**properties))
    wire = encode_task(message)
    wire.headers |= {"eta": eta, "retries": retries}
    return wire


async def publish(broker: SqsBroker, queue: str, *messages: WireMessage, not_before: float | None = None) -> None:
    await broker.publish([Publication(message=m, queue=queue, not_before=not_before) for m in messages])


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        taken += await consumer.receive(count - len(taken))
    return taken


def numbers(deliveries: list[Delivery]) -> list[int]:
    """What the messages of `task` were made with."""
    found: list[int] = []
    for delivery in deliveries:
        assert isinstance(delivery.content, bytes)
        found.append(json.loads(b64decode(json.loads(delivery.content)["body"]))[0][0])
    return sorted(found)


def acks(deliveries: list[Delivery]) -> list[Ack]:
    return [Ack(delivery) for delivery in deliveries]
