"""What is published goes where it is meant to go, or its sender is told; and nobody else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kombu.connection import Connection

from amqp_kit import BOUND, NewBroker, make_broker, message, queue_name, take_one
from asyncq.driver import ConsumerOptions, Dead, Delivery, Publication, Queue, Requeue
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull, EncodeError, PublishError
from asyncq.protocol import Properties, WireMessage, dead_letter
from asyncq_brokers._clients.amqp import outlet
from asyncq_brokers.amqp import AmqpBroker
from servers import RabbitServer


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


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"exchange": "nowhere"}, "404 NOT_FOUND - no exchange 'nowhere'"),
        ({"headers": {"x": float("nan")}}, "holds nan"),
        ({"headers": {"x": "h" * 140_000}}, "bytes of headers; RabbitMQ takes 131,064"),
    ],
)
async def test_a_bad_message_is_its_senders_error_alone(broker: AmqpBroker, bad: dict[str, Any], told: str) -> None:
    """RabbitMQ ends the channel for it, or the connection, with everything that is under way there."""
    queue = Queue(name=queue_name())
    content = WireMessage(b"bad", {"task": "tests.task", **bad.get("headers", {})}, Properties())
    wrong = Publication(message=content, queue=queue.name, exchange=bad.get("exchange", ""), routing_key=queue.name)
    await refuses_alone(broker, queue, wrong, told)
    assert sorted(await ready(broker, queue), key=int) == [b"%d" % number for number in range(20)]


async def refuses_alone(sender: AmqpBroker, queue: Queue, wrong: Publication, told: str) -> None:
    """Send twenty good messages to the queue, and some bad ones beside them and between them."""

    def right(number: int) -> Publication:
        return Publication(message=message(b"%d" % number), queue=queue.name, target=queue)

    for first in (0, 10):
        good = [sender.publish([right(first + number)]) for number in range(8)]
        beside = sender.publish([right(first + 8), wrong, wrong, right(first + 9)])
        *stored, refused = await asyncio.gather(*good, beside, return_exceptions=True)
        assert stored == [None] * 8
        assert isinstance(refused, PublishError)
        assert sorted(refused.failures) == [1, 2]
        for error in refused.failures.values():
            assert isinstance(error, BrokerError | EncodeError)
            assert not isinstance(error, BrokerConnectionError)
            assert told in str(error)


async def test_an_exchange_that_one_may_not_write_to_harms_no_other(
    server: RabbitServer, vhost: str, broker: AmqpBroker
) -> None:
    user, queue = queue_name(), Queue(name=queue_name())
    await broker.declare([Queue(name=f"{user}-x", exchange=f"x-{user}", exchange_type="fanout")])
    await asyncio.to_thread(server.add_user, user, "secret", vhost, write=r"^(amq\.default|q-.*)$")
    sender = make_broker(server.url(vhost).replace("guest:guest", f"{user}:secret"))
    try:
        await sender.open()
        wrong = Publication(message=message(b"bad"), queue=queue.name, exchange=f"x-{user}", routing_key="")
        await refuses_alone(sender, queue, wrong, "403 ACCESS_REFUSED")
    finally:
        await sender.close()
    assert sorted(await ready(broker, queue), key=int) == [b"%d" % number for number in range(20)]


async def test_an_exchange_that_is_gone_is_made_again(url: str, broker: AmqpBroker) -> None:
    name = queue_name()
    queue = Queue(name=name, exchange=f"x-{name}", exchange_type="topic")
    there = Publication(message=message(), queue=name, exchange=f"x-{name}", target=queue)
    await broker.publish([there])
    await delete_exchange(url, f"x-{name}")
    with pytest.raises(BrokerConnectionError):  # nobody knows whether it was gone then
        await broker.publish([there])
    await broker.publish([there])
    await broker.declare([queue])
    assert len(await ready(broker, queue)) == 2


async def test_more_exchanges_than_channels(broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "_MOST_KEPT", 2)
    name = queue_name()
    queues = [Queue(name=f"{name}-{n}", exchange=f"x-{name}-{n}", exchange_type="topic") for n in range(5)]
    for _ in range(2):
        batches = [broker.publish([to(queue, exchange=queue.exchange)]) for queue in queues]
        await asyncio.gather(*batches)
    assert [(await broker.depth(queue.name)).ready for queue in queues] == [2] * 5


async def delete_exchange(url: str, name: str) -> None:
    def run() -> None:
        with Connection(url) as connection:
            connection.channel().exchange_delete(name)

    await asyncio.to_thread(run)


async def test_asyncqs_own_notes_are_left_out_where_there_is_no_room_for_them(broker: AmqpBroker) -> None:
    """A dead letter or a parked message that outgrew the frame was settled again and again, for ever."""
    queue = Queue(name=queue_name())
    large = WireMessage(b"", {"task": "tests.task", "large": "h" * 130_950}, Properties())
    await broker.publish([Publication(message=large, queue=queue.name, target=queue) for _ in range(2)])
    consumer = broker.consume([queue], ConsumerOptions(node="tests@host"))
    async with asyncio.timeout(BOUND):
        held: list[Delivery] = []
        while len(held) < 2:
            held += await consumer.receive(2)
        assert held[0].content == large
        letter = dead_letter(large, queue=queue.name, reason="r" * 60, at=1.0, attempts=1)
        assert await consumer.settle([Dead(held[0], letter), Requeue(held[1])]) == []
        await consumer.close()
    (dead,) = await broker.peek(queue.name, "dead")
    assert dead.content == large
    assert await ready(broker, queue) == [b""]


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
    for one in (to(queue, b"0"), odd, to(queue, b"1")):
        await broker.publish([one])
    assert await ready(broker, queue) == [b"0", b"odd", b"1"]
    worker = await new_broker()
    taken = [(await take_one(worker, queue)).content for _ in range(3)]
    assert taken == [message(b"0"), message(b"odd"), message(b"1")]
