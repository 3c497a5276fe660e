"""What is declared is what Celery declares, so that neither side is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange as CeleryExchange
from kombu.entity import Queue as CeleryQueue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)
from msgspec.structs import replace

from amqp_kit import NewBroker, make_broker, message, queue_name, take_one
from asyncq.driver import ConsumerOptions, Publication, Queue
from asyncq.errors import BrokerError, BrokerFull, ConfigurationError, PublishError
from asyncq_brokers.amqp import AmqpBroker
from servers import RabbitServer
from waiting import until


async def by_kombu(url: str, do: Callable[[Any], object]) -> None:
    """Do something with a connection of kombu's, as a Celery worker would."""

    def run() -> None:
        with Connection(url) as connection:
            do(connection)

    await asyncio.to_thread(run)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_priority": 10},
        {"queue_arguments": {"x-queue-type": "quorum"}},
        {"expires": 60, "message_ttl": 30, "max_length": 10, "max_length_bytes": 10_000},
    ],
)
@pytest.mark.parametrize("exchange_type", ["direct", "topic", "fanout"])
async def test_celery_and_asyncq_declare_the_same(
    url: str, broker: AmqpBroker, options: dict[str, Any], exchange_type: str
) -> None:
    name = queue_name()
    theirs = CeleryQueue(name, CeleryExchange(f"x-{name}", exchange_type), f"{name}.key", **options)
    arguments = dict(options.get("queue_arguments", {}))
    words = {"expires": ("x-expires", 1000), "message_ttl": ("x-message-ttl", 1000), "max_length": ("x-max-length", 1)}
    words |= {"max_length_bytes": ("x-max-length-bytes", 1), "max_priority": ("x-max-priority", 1)}
    arguments |= {key: options[word] * factor for word, (key, factor) in words.items() if word in options}
    ours = Queue(
        name=name, exchange=f"x-{name}", exchange_type=exchange_type, routing_key=f"{name}.key", arguments=arguments
    )
    await broker.declare([ours])
    await by_kombu(url, lambda connection: theirs(connection).declare())
    await broker.declare([ours])
    await broker.publish([Publication(message=message(), queue=name, exchange=f"x-{name}", routing_key=f"{name}.key")])
    assert await take_one(broker, ours)


async def test_a_conflict_of_arguments_is_one_clear_error(broker: AmqpBroker, new_broker: NewBroker) -> None:
    name = queue_name()
    await broker.declare([Queue(name=name)])
    other = Queue(name=name, arguments={"x-max-priority": 5})
    late = await new_broker()
    with pytest.raises(ConfigurationError, match=rf"queue '{name}' exists with other arguments.*'x-max-priority': 5"):
        await late.declare([other])
    with pytest.raises(PublishError, match="exists with other arguments"):
        await late.publish([Publication(message=message(), queue=name, target=other)])
    await late.publish([Publication(message=message(), queue=f"{name}-else")])


async def test_a_conflict_over_the_exchange_says_so(broker: AmqpBroker, new_broker: NewBroker) -> None:
    name = queue_name()
    await broker.declare([Queue(name=name, exchange=f"x-{name}", exchange_type="topic")])
    late = await new_broker()
    with pytest.raises(ConfigurationError, match=rf"the exchange 'x-{name}' of queue '{name}' exists with other"):
        await late.declare([Queue(name=name, exchange=f"x-{name}")])


async def test_a_thousand_senders_declare_a_new_queue_with_few_channels(broker: AmqpBroker) -> None:
    """Each had a channel of its own; without a free number the search for one never ended."""
    connection = await broker._link.connected(broker._link.deadline())
    connection.terms = replace(connection.terms, channel_max=8)  # as `channel_max` in rabbitmq.conf
    queues = [Queue(name=queue_name()) for _ in range(3)]
    sending = [broker.publish([Publication(message=message(), queue=q.name, target=q)]) for q in queues * 30]
    await asyncio.gather(*sending)
    assert [(await broker.depth(queue.name)).ready for queue in queues] == [30] * 3


async def test_no_channel_left_is_told(broker: AmqpBroker) -> None:
    connection = await broker._link.connected(broker._link.deadline())
    connection.terms = replace(connection.terms, channel_max=2)
    held = [await broker._link.channel(broker._link.deadline()) for _ in range(2)]
    with pytest.raises(BrokerFull, match=r"all 2 channels .* are in use"):
        await broker.publish([Publication(message=message(), queue=queue_name())])
    held[0].leave()

    async def opens() -> bool:
        with suppress(BrokerFull):
            await broker._link.channel(broker._link.deadline())
            return True
        return False

    await until(opens)


async def test_without_the_right_to_declare_what_is_there_is_used(
    server: RabbitServer, vhost: str, broker: AmqpBroker
) -> None:
    name = queue_name()
    await asyncio.to_thread(server.add_user, "poor", "secret", vhost, configure="^$")
    await broker.declare([Queue(name=name)])
    poor = make_broker(server.url(vhost).replace("guest:guest", "poor:secret"))
    try:
        await poor.open()
        await poor.declare([Queue(name=name)])
        await poor.publish([Publication(message=message(), queue=name)])
        assert await take_one(poor, Queue(name=name))
        with pytest.raises(ConfigurationError, match=f"'{name}-missing' is not there, and we have no right"):
            await poor.declare([Queue(name=f"{name}-missing")])
    finally:
        await poor.close()


async def test_nobody_is_let_in_with_a_wrong_password_or_virtual_host(server: RabbitServer, vhost: str) -> None:
    for url in (server.url(vhost).replace("guest:guest", "guest:canary"), server.url("nowhere")):
        broker = make_broker(url)
        with pytest.raises(ConfigurationError) as refused:
            await broker.open()
        assert "canary" not in str(refused.value)
        await broker.close()


async def test_what_no_queue_takes_is_told(broker: AmqpBroker) -> None:
    name = queue_name()
    topic = Queue(name=name, exchange=f"x-{name}", exchange_type="topic", routing_key="a.*")
    await broker.declare([topic])
    lost = Publication(message=message(), queue=name, exchange=f"x-{name}", routing_key="b.c")
    kept = Publication(message=message(), queue=name, exchange=f"x-{name}", routing_key="a.c")
    with pytest.raises(PublishError, match=r"no queue takes what exchange 'x-.*' gets with routing key 'b.c'") as told:
        await broker.publish([lost, kept])
    assert list(told.value.failures) == [0]
    assert isinstance(told.value.failures[0], BrokerError)
    assert await take_one(broker, topic)


async def test_a_queue_that_was_deleted_is_made_again(url: str, broker: AmqpBroker) -> None:
    queue = Queue(name=queue_name(), arguments={"x-max-priority": 3})
    await broker.declare([queue])
    await by_kombu(url, lambda connection: connection.channel().queue_delete(queue.name))
    await broker.publish([Publication(message=message(), queue=queue.name)])
    await broker.declare([queue])  # with the same arguments
    assert await take_one(broker, queue)


async def test_a_consumer_goes_on_when_its_queue_is_deleted(url: str, broker: AmqpBroker) -> None:
    queue = Queue(name=queue_name())
    consumer = broker.consume([queue], ConsumerOptions(node="tests@host"))
    receiving = asyncio.create_task(consumer.receive(1))
    try:
        await broker.publish([Publication(message=message(b"1"), queue=queue.name, target=queue)])
        async with asyncio.timeout(10):
            await receiving
            receiving = asyncio.create_task(consumer.receive(1))
            await by_kombu(url, lambda connection: connection.channel().queue_delete(queue.name))
            await broker.publish([Publication(message=message(b"2"), queue=queue.name)])
            (delivery,) = await receiving
        assert delivery.content == message(b"2")
    finally:
        receiving.cancel()


# -- delays ------------------------------------------------------------------------------------------------------


async def test_the_delay_queues_are_celerys(url: str, broker: AmqpBroker) -> None:
    queue = Queue(name=queue_name(), exchange_type="topic")
    await broker.declare([queue])

    def declare(connection: Any) -> None:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        theirs = CeleryQueue(queue.name, CeleryExchange(queue.name, "topic"), queue.name)(connection)
        theirs.declare()
        bind_queue_to_native_delayed_delivery_exchange(connection, theirs)

    await by_kombu(url, declare)


async def test_what_celerys_client_delays_reaches_a_queue_of_asyncqs_alone(url: str, broker: AmqpBroker) -> None:
    """Clients of Celery declare none of this: a worker has to, of whatever kind."""
    name = queue_name()
    queue = Queue(name=name, exchange=f"x-{name}", exchange_type="topic", routing_key=f"key.{name}")
    await broker.declare([queue])
    key = ".".join(f"{1:028b}") + f".key.{name}"

    def send(connection: Any) -> None:
        connection.Producer().publish({}, exchange="celery_delayed_27", routing_key=key, serializer="json")

    await by_kombu(url, send)
    assert await take_one(broker, queue)


async def test_a_delayed_message_comes_out_of_its_own_queue_alone(broker: AmqpBroker) -> None:
    """Celery's binding `#.mail` takes what is for `bulk.mail` as well."""
    name = queue_name()
    short, long = Queue(name=name), Queue(name=f"bulk.{name}")
    await broker.declare([short, long])
    await broker.publish([Publication(message=message(), queue=long.name, not_before=_soon())])
    assert await take_one(broker, long)
    assert (await broker.depth(short.name)).ready == 0


async def test_what_is_parked_comes_out_of_no_queue_that_users_bind_to_everything(broker: AmqpBroker) -> None:
    """Found: a retry of one queue's task ran a second time out of a topic queue bound by `#`, or of a fanout one."""
    name = queue_name()
    own = Queue(name=name)
    others = [
        Queue(name=f"{name}.all", exchange=f"x-{name}", exchange_type="topic", routing_key="#"),
        Queue(name=f"{name}.news", exchange=f"f-{name}", exchange_type="fanout", routing_key=name),
    ]
    await broker.declare([own, *others])
    await broker.publish([Publication(message=message(), queue=name, not_before=_soon())])
    assert await take_one(broker, own)
    assert [(await broker.depth(queue.name)).ready for queue in others] == [0, 0]


@pytest.mark.parametrize("gone", [0, 27])
async def test_a_level_that_was_deleted_is_made_again(server: RabbitServer, gone: int) -> None:
    """Also while a broker goes on that has seen it, where the message comes there first."""
    vhost = f"gap-{queue_name()}"
    await asyncio.to_thread(server.add_vhost, vhost)
    url = server.url(vhost)
    queue = Queue(name="q")
    first, second = make_broker(url), make_broker(url)
    try:
        await first.declare([queue])
        await by_kombu(url, lambda connection: connection.channel().queue_delete(f"asyncq.delayed_{gone}"))
        if gone == 0:
            await first.publish([Publication(message=message(), queue="q", not_before=_soon(0.5))])
            assert await take_one(first, queue)
        else:
            await second.declare([queue])
        assert await _exists(server, vhost, f"asyncq.delayed_{gone}")
    finally:
        await first.close()
        await second.close()


async def test_celerys_delay_queues_that_would_lose_messages_are_told(
    server: RabbitServer, caplog: pytest.LogCaptureFixture
) -> None:
    vhost = f"classic-{queue_name()}"
    await asyncio.to_thread(server.add_vhost, vhost)
    url = server.url(vhost)
    await by_kombu(url, lambda c: declare_native_delayed_delivery_exchanges_and_queues(c, "classic"))
    broker = make_broker(url)
    try:
        await broker.open()
        queue = Queue(name="q", exchange_type="topic")
        await broker.declare([queue])
        assert "The delay queues celery_delayed_… exist with other arguments" in caplog.text
        await broker.publish([Publication(message=message(), queue="q", not_before=_soon())])
        (parked,) = await broker.peek("q", "parked")
        assert parked.content == message()
        assert await take_one(broker, queue)
    finally:
        await broker.close()


async def _exists(server: RabbitServer, vhost: str, queue: str) -> bool:
    listed = await asyncio.to_thread(server.control, "list_queues", "-p", vhost, "name")
    return queue in listed.split()


def _soon(seconds: float = 1.0) -> float:
    from asyncq._clock import system_environment

    return system_environment().clock.wall() + seconds
