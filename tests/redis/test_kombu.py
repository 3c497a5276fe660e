"""Beside a real kombu on one server: queues shared, nothing lost, nobody's work stolen."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue

from asyncq.driver import Ack, Queue
from asyncq.protocol import decode_task
from asyncq_brokers.redis import RedisBroker
from redis_kit import Client, NewBroker, ack, consume, keep_house, number_of, numbers, publish, take
from waiting import until

#: kombu's option, in seconds; the time that Celery gives a delivery before it takes it for lost.
VISIBILITY = 1


@contextmanager
def connection(url: str, **options: Any) -> Generator[Any]:  # Any: kombu ships no types
    with Connection(url, transport_options={"visibility_timeout": VISIBILITY, **options}) as connection:
        yield connection


def kombu_publish(url: str, queue: str, *bodies: int, **more: Any) -> None:
    with connection(url) as conn:
        for body in bodies:
            conn.Producer(serializer="json").publish(
                [[body], {}, {}], routing_key=queue, headers={"task": "tests.add", "id": str(body)}, **more
            )


def kombu_take(conn: Any, queue: str, count: int) -> list[Any]:
    """Take messages as a Celery worker does: recorded in `unacked`, not acknowledged."""
    simple = conn.SimpleQueue(queue, no_ack=False)
    simple.consumer.qos(prefetch_count=count)
    return [simple.get(timeout=5) for _ in range(count)]


def kombu_sweep(url: str) -> None:
    """One sweep for what is overdue, as each Celery worker makes it."""
    with connection(url) as conn:
        conn.default_channel.qos.restore_visible()


# -- messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [0, 1, 3, 5, 6, 9])
async def test_what_kombu_publishes_is_taken(broker: RedisBroker, url: str, priority: int) -> None:
    await asyncio.to_thread(kombu_publish, url, "q", 7, priority=priority)

    (delivery,) = await take(consume(broker, "q"), 1)

    message = decode_task(delivery.content)
    assert (message.task, message.args, message.properties.priority) == ("tests.add", [7], priority)


async def test_kombus_priorities_are_served_in_kombus_order(broker: RedisBroker, url: str) -> None:
    for priority in (9, 0, 5, 3):
        await asyncio.to_thread(kombu_publish, url, "q", priority, priority=priority)

    taken = await take(consume(broker, "q"), 4)

    order = [number_of(delivery.content) for delivery in taken]
    assert order[0] == 0
    assert set(order[1:3]) == {3, 5}
    assert order[3] == 9


@pytest.mark.parametrize("prefix", ["", "team1:"])
async def test_kombu_finds_our_queues_behind_their_exchanges(new_broker: NewBroker, url: str, prefix: str) -> None:
    broker = await new_broker(global_keyprefix=prefix)
    direct = Queue(name="d", exchange="direct-x", routing_key="k")
    topic = Queue(name="t", exchange="topic-x", exchange_type="topic", routing_key="shop.*.sold")
    await broker.declare([direct, topic])

    def send() -> None:
        with connection(url, global_keyprefix=prefix) as conn:
            producer = conn.Producer(serializer="json")
            body: Any = [[1], {}, {}]
            headers = {"task": "tests.add", "id": "1"}
            for name, kind, key in (("direct-x", "direct", "k"), ("topic-x", "topic", "shop.eu.sold")):
                exchange = Exchange(name, kind)
                producer.publish(body, exchange=exchange, routing_key=key, headers=headers, declare=[exchange])

    await asyncio.to_thread(send)

    assert sorted(delivery.queue for delivery in await take(consume(broker, "d", "t"), 2)) == ["d", "t"]


async def test_kombu_takes_what_we_publish(broker: RedisBroker, url: str) -> None:
    await publish(broker, "q", 5, priority=6)

    def receive() -> Any:
        with connection(url) as conn:
            (message,) = kombu_take(conn, "q", 1)
            message.ack()
            return message

    message = await asyncio.to_thread(receive)

    assert message.payload[0] == [5, 1]
    assert message.headers["task"] == "tests.add"
    assert message.properties["priority"] == 6


# -- deliveries ----------------------------------------------------------------------------------------------


async def test_celery_rescues_what_a_dead_asyncq_held(broker: RedisBroker, url: str, client: Client) -> None:
    await publish(broker, "q", 1, 2, 3, priority=3)
    consumer = consume(broker, "q")
    held = await consumer.receive(3)
    await until(lambda: overdue(client) == 3)

    await asyncio.to_thread(kombu_sweep, url)

    assert await consumer.extend(held) == held
    assert await consumer.settle([Ack(delivery) for delivery in held]) == held
    again = await take(consume(broker, "q"), 3)
    assert numbers(again) == [1, 2, 3]
    assert all(delivery.redelivered for delivery in again)


async def test_celery_leaves_alone_what_is_renewed(new_broker: NewBroker, url: str, client: Client) -> None:
    """Three visibility timeouts long, with a lease that needs no extending meanwhile."""
    broker = await new_broker(visibility_timeout=VISIBILITY)
    await publish(broker, "q", 1)
    consumer = consume(broker, "q", lease=60)
    held = await consumer.receive(1)
    keeping = asyncio.create_task(keep_house(consumer))
    try:
        for _ in range(12):
            await asyncio.sleep(VISIBILITY / 4)
            await asyncio.to_thread(kombu_sweep, url)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])

    assert client.llen("q") == 0
    await ack(consumer, held)


async def test_what_celery_holds_is_left_alone_until_its_own_time(
    new_broker: NewBroker, url: str, client: Client
) -> None:
    broker = await new_broker(visibility_timeout=3600)
    await asyncio.to_thread(kombu_publish, url, "q", 1)
    with connection(url) as conn:
        (message,) = await asyncio.to_thread(kombu_take, conn, "q", 1)
        # A lease of ours that ends a hundred times over makes nothing of Celery's ours.
        consumer = consume(broker, "q", lease=0.01)
        for _ in range(5):
            await consumer.maintain()
            await asyncio.sleep(0.02)

        assert client.llen("q") == 0
        assert client.hlen("unacked") == 1
        await asyncio.to_thread(message.ack)


@pytest.mark.parametrize("priority", [0, 5])
async def test_what_a_dead_celery_held_comes_back_by_its_rule(
    new_broker: NewBroker, url: str, client: Client, priority: int
) -> None:
    await asyncio.to_thread(kombu_publish, url, "q", 1, 2, 3, priority=priority)
    with connection(url) as conn:
        await asyncio.to_thread(kombu_take, conn, "q", 3)
        # The worker dies: nothing of it gives anything back.
        conn.default_channel.qos._delivered.clear()
        await until(lambda: overdue(client) == 3)
        broker = await new_broker(visibility_timeout=VISIBILITY)

        taken = await take(consume(broker, "q"), 3)

    assert [number_of(delivery.content) for delivery in taken] == [1, 2, 3]
    assert all(delivery.redelivered for delivery in taken)
    await until(lambda: not client.exists("unacked_mutex"))


async def test_a_named_exchange_is_restored_through_its_binding(
    new_broker: NewBroker, url: str, client: Client
) -> None:
    broker = await new_broker(visibility_timeout=VISIBILITY)
    await broker.declare([Queue(name="q", exchange="x", routing_key="k")])

    def send_and_take(conn: Any) -> None:
        exchange = Exchange("x", "direct")
        headers = {"task": "tests.add", "id": "1"}
        conn.Producer(serializer="json").publish([[4], {}, {}], exchange=exchange, routing_key="k", headers=headers)
        simple = conn.SimpleQueue(KombuQueue("q", exchange, routing_key="k"), no_ack=False)
        simple.get(timeout=5)

    with connection(url) as conn:
        await asyncio.to_thread(send_and_take, conn)
        conn.default_channel.qos._delivered.clear()
        (record,) = client.hvals("unacked")
        assert json.loads(record)[1:] == ["x", "k"]
        await until(lambda: overdue(client) == 1)

        (delivery,) = await take(consume(broker, "q"), 1)

    assert number_of(delivery.content) == 4


async def test_two_fleets_on_one_queue_run_each_message_once(broker: RedisBroker, url: str) -> None:
    await publish(broker, "q", *range(400))
    ours: list[int] = []
    theirs: list[int] = []
    stop = threading.Event()

    def celery_like() -> None:
        with connection(url) as conn:
            simple = conn.SimpleQueue("q", no_ack=False)
            simple.consumer.qos(prefetch_count=4)
            while not stop.is_set():
                try:
                    message = simple.get(timeout=0.2)
                except simple.Empty:
                    continue
                theirs.append(message.payload[0][0])
                message.ack()

    async def asyncq_like() -> None:
        consumer = consume(broker, "q")
        while True:
            batch = await consumer.receive(3)
            ours.extend(numbers(batch))
            await ack(consumer, batch)
            await asyncio.sleep(0.005)  # so that the other one gets its share

    thread, task = asyncio.create_task(asyncio.to_thread(celery_like)), asyncio.create_task(asyncq_like())
    try:
        await until(lambda: len(ours) + len(theirs) >= 400)
    finally:
        stop.set()
        task.cancel()
        await asyncio.wait([thread, task])

    assert ours
    assert theirs
    assert sorted(ours + theirs) == list(range(400))


def overdue(client: Client) -> int:
    """How many deliveries Celery's next sweep takes for lost."""
    return client.zcount("unacked_index", 0, time.time() - VISIBILITY)
