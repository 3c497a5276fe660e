"""The verbs that the tests on Redis are written in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from asyncq._clock import new_id, system_environment
from asyncq.driver import Ack, Consumer, ConsumerOptions, Delivery, DriverConfig, Publication, Queue
from asyncq.protocol import Properties, TaskMessage, WireMessage, decode_envelope, encode_task
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker

#: Seconds after which a wait counts as a hang.
BOUND = 15.0

SEP = "\x06\x16"

#: A client of redis-py. Its types say that every reply may be text, which depends on an option that no test sets.
Client: TypeAlias = Any


class NewBroker(Protocol):
    """Makes a broker on the test's database and opens it; closed at the end of the test."""

    async def __call__(self, *, timeout: float = 10.0, **options: Any) -> RedisBroker: ...


class NewBackend(Protocol):
    """Makes a result backend on the test's database and opens it; closed at the end of the test."""

    async def __call__(self, *, timeout: float = 10.0, **options: Any) -> RedisBackend: ...


def make_broker(url: str, *, timeout: float = 10.0) -> RedisBroker:
    """A broker that is not open yet; the caller closes it."""
    return RedisBroker(DriverConfig(url=url, app="tests", environment=system_environment(), timeout=timeout))


def task(number: int = 0, *, priority: int | None = None) -> WireMessage:
    """A call of `tests.add(number, 1)`, as asyncq sends it."""
    message = TaskMessage(task="tests.add", id=new_id(), args=[number, 1], properties=Properties(priority=priority))
    return encode_task(message)


async def publish(broker: RedisBroker, queue: str, *numbers: int, priority: int | None = None, **more: Any) -> None:
    batch = [Publication(message=task(number, priority=priority), queue=queue, **more) for number in numbers]
    await broker.publish(batch)


def consume(broker: RedisBroker, *queues: str, node: str = "tests@host", lease: float = 60.0) -> Consumer:
    return broker.consume([Queue(name=name) for name in queues], ConsumerOptions(node=node, lease=lease))


def number_of(content: bytes | WireMessage) -> int:
    """The number that a message of `task` was made with, whoever has handled it since."""
    message = decode_envelope(content) if isinstance(content, bytes) else content
    return json.loads(message.body)[0][0]


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [number_of(delivery.content) for delivery in deliveries]


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    """Receive exactly so many, with a worker's housekeeping meanwhile."""
    taken: list[Delivery] = []
    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_house(consumer))
        while len(taken) < count:
            taken += await consumer.receive(count - len(taken))
        keeping.cancel()
    return taken


async def keep_house(consumer: Consumer) -> None:
    while True:
        await asyncio.sleep(await consumer.maintain())


async def ack(consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
    assert await consumer.settle([Ack(delivery) for delivery in deliveries]) == []
