"""What is published goes where it is meant to go, or its sender is told; and nobody else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from amqp_kit import NewBroker, message, queue_name, take_one
from asyncq.driver import Publication, Queue
from asyncq.errors import BrokerFull, EncodeError, PublishError
from asyncq.protocol import Properties, WireMessage
from asyncq_brokers.amqp import AmqpBroker


def to(queue: Queue, body: bytes = b"0", **options: Any) -> Publication:
    return Publication(message=message(body), queue=queue.name, target=queue, **options)


async def ready(broker: AmqpBroker, queue: Queue) -> list[bytes]:
    found = await broker.peek(queue.name, "ready")
    return [one.content.body for one in found if isinstance(one.content, WireMessage)]


@pytest.mark.parametrize(
    "bad",
    [
        {"exchange": "amq.topic", "routing_key": "k" * 300},
        {"exchange": "e" * 256},
    ],
)
async def test_a_name_that_is_too_long_is_its_senders_error_alone(broker: AmqpBroker, bad: dict[str, Any]) -> None:
    """Each later confirm once went to the message before its own: a refused one counted as stored."""
    full = Queue(name=queue_name(), arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    queue = Queue(name=queue_name())
    await broker.publish([to(full, b"fills"), to(queue, b"0")])
    with pytest.raises(PublishError) as told:
        await broker.publish([to(queue, b"1"), to(queue, b"bad", **bad), to(queue, b"2")])
    assert {position: type(error) for position, error in told.value.failures.items()} == {1: EncodeError}
    refused, *stored = await asyncio.gather(
        *(broker.publish([to(full, b"refused")]), broker.publish([to(queue, b"3")]), broker.publish([to(queue, b"4")])),
        return_exceptions=True,
    )
    assert isinstance(refused, PublishError)
    assert isinstance(refused.failures[0], BrokerFull)
    assert stored == [None, None]
    assert await ready(broker, full) == [b"fills"]
    assert sorted(await ready(broker, queue)) == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_comes_back_without_a_header_is_not_stored(broker: AmqpBroker) -> None:
    """RabbitMQ takes BCC out of the headers, and gives back what is left."""
    headers = {"task": "tests.task", "BCC": ["nobody"]}
    lost = Publication(
        message=WireMessage(b"", headers, Properties()), queue="none", exchange="amq.topic", routing_key="no.one"
    )
    with pytest.raises(PublishError, match="no queue takes what exchange"):
        await broker.publish([lost])


async def test_a_routing_key_of_any_bytes_harms_nobody(broker: AmqpBroker, new_broker: NewBroker) -> None:
    """It ended the connection of whoever consumed it, and of the next one."""
    name = queue_name()
    queue = Queue(name=name, exchange=f"x-{name}", exchange_type="fanout")
    odd = Publication(message=message(b"odd"), queue=name, exchange=f"x-{name}", routing_key="\udce9\udcff")
    await broker.publish([to(queue, b"0"), odd, to(queue, b"1")])
    assert await ready(broker, queue) == [b"0", b"odd", b"1"]
    worker = await new_broker()
    taken = [(await take_one(worker, queue)).content for _ in range(3)]
    assert taken == [message(b"0"), message(b"odd"), message(b"1")]
