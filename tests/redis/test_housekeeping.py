"""What any consumer does for all: rescue, sweep, bring back what is due; and what is no message at all."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Ack, Dead, Delivery, GiveBack, Park, Publication, Requeue
from asyncq.protocol import dead_letter, decode_envelope
from asyncq_brokers._clients.redis import BROKER_ERRORS, BrokerOptions, Link, parse_endpoint
from asyncq_brokers.redis import RedisBroker
from asyncq_brokers.redis.deliveries import Deliveries, Move
from asyncq_brokers.redis.keys import Keys
from golden import redis_envelopes
from redis_kit import Client, NewBroker, ack, consume, number_of, numbers, publish, take, task
from waiting import until

#: What nobody can read, as somebody's slip of the hand leaves it on a queue; some look like JSON at first sight.
GARBAGE = {
    "text": b"hello",
    "empty": b"",
    "binary": bytes(range(256)),
    "python": b"{'body': 1}",
    "truncated": b'{"body": "W1sx',
    "nearly": b'{"body": "W1sx", "headers": {}}}',
    "not-utf8": b'{"body": "\xff\xfe"}',
    "nested": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


def overdue_record(client: Client, tag: str, record: bytes, *, age: float = 7200.0) -> None:
    """A record that some Celery worker wrote so many seconds ago."""
    client.hset("unacked", tag, record)
    client.zadd("unacked_index", {tag: time.time() - age})


# -- garbage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [pytest.param(value, id=name) for name, value in GARBAGE.items()])
async def test_garbage_is_handed_out_and_no_sweep_of_celerys_dies_of_it(
    broker: RedisBroker, client: Client, content: bytes
) -> None:
    client.lpush("q", content)
    consumer = consume(broker, "q")

    (delivery,) = await take(consumer, 1)

    assert delivery.content == content
    assert all(len(json.loads(record)) == 3 for record in client.hvals("unacked"))
    assert client.hlen("unacked") + client.hlen("asyncq.unreadable") == 1
    assert await consumer.extend([delivery]) == []
    await ack(consumer, [delivery])
    assert not [key for key in client.keys("*") if key != b"unacked_mutex"]


@pytest.mark.parametrize("content", [pytest.param(value, id=name) for name, value in GARBAGE.items()])
async def test_garbage_of_a_dead_consumer_comes_again(broker: RedisBroker, client: Client, content: bytes) -> None:
    client.lpush("q", content)
    await take(consume(broker, "q", lease=0.1), 1)

    (again,) = await take(consume(broker, "q"), 1)

    assert again.content == content


@pytest.mark.parametrize("content", [pytest.param(value, id=name) for name, value in GARBAGE.items()])
async def test_garbage_can_be_buried(broker: RedisBroker, client: Client, content: bytes) -> None:
    client.lpush("q", content)
    consumer = consume(broker, "q")
    (delivery,) = await take(consumer, 1)
    letter = dead_letter(delivery.content, queue="q", reason="undecodable", at=0.0, attempts=1)

    assert await consumer.settle([Dead(delivery, letter)]) == []

    (stored,) = await broker.peek("q", "dead")
    assert decode_envelope(stored.content if isinstance(stored.content, bytes) else b"").body == content
    assert not client.exists("unacked", "asyncq.unreadable", "asyncq.leases")


@pytest.mark.parametrize("how", ["requeue", "front", "give-back", "park"])
async def test_garbage_can_go_back(broker: RedisBroker, client: Client, how: str) -> None:
    client.lpush("q", GARBAGE["binary"])
    consumer = consume(broker, "q")
    (delivery,) = await take(consumer, 1)
    settlement = {
        "requeue": Requeue(delivery),
        "front": Requeue(delivery, front=True),
        "give-back": GiveBack(delivery),
        "park": Park(delivery, until=time.time()),
    }[how]

    await consumer.settle([settlement])

    (again,) = await take(consumer, 1)
    assert again.content == GARBAGE["binary"]


async def test_json_that_only_python_reads_stays_in_celerys_sight(broker: RedisBroker, client: Client) -> None:
    client.lpush("q", b'{"a": NaN, "b": "\\ud800"}')

    await take(consume(broker, "q"), 1)

    assert client.hlen("unacked") == 1


# -- Celery's records ----------------------------------------------------------------------------------------


async def test_records_that_nobody_can_restore_are_left(
    broker: RedisBroker, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    envelope = redis_envelopes("task_default")[0]
    left = {
        "no-json": b"hello",
        "no-list": envelope,
        "no-message": b'["text", "", "q"]',
        "unknown-exchange": b'[%b, "x", "k"]' % envelope,
    }
    for tag, record in left.items():
        overdue_record(client, tag, record)
    overdue_record(client, "good", b'[%b, "", "q"]' % envelope)
    client.zadd("unacked_index", {"no-record": 0})

    with caplog.at_level(logging.WARNING):
        (delivery,) = await take(consume(broker, "q"), 1)

    assert json.loads(delivery.content)["headers"]["redelivered"] is True  # pyright: ignore[reportArgumentType] - bytes
    assert set(client.hkeys("unacked")) == {*(tag.encode() for tag in left), delivery.tag.encode()}
    await until(lambda: client.zscore("unacked_index", "no-record") is None)
    assert "4 overdue records" in caplog.text


async def test_more_overdue_records_than_one_look_sees(broker: RedisBroker, client: Client) -> None:
    """Bad ones don't hide those behind them, and the oldest is served first."""
    envelope = json.loads(redis_envelopes("task_default")[0])
    for number in range(150):
        overdue_record(client, f"bad-{number}", b"hello", age=5000 + number)
    for number in range(150):
        envelope["headers"]["number"] = number
        overdue_record(client, f"good-{number}", json.dumps([envelope, "", "q"]).encode(), age=9000 - number)

    consumer = consume(broker, "q")
    await consumer.maintain()

    taken = await take(consumer, 150)
    assert [header(delivery, "number") for delivery in taken] == list(range(150))


async def test_one_sweeps_at_a_time(broker: RedisBroker, client: Client) -> None:
    overdue_record(client, "good", b'[%b, "", "q"]' % redis_envelopes("task_default")[0])
    client.set("unacked_mutex", "a kombu's token", px=300_000)

    await consume(broker, "q").maintain()

    assert client.llen("q") == 0
    assert client.get("unacked_mutex") == b"a kombu's token"


async def test_a_cancelled_sweep_leaves_no_lock(broker: RedisBroker, client: Client) -> None:
    """Celery's sweeps would stand still for five minutes."""
    for turns in range(12):
        sweeping = asyncio.create_task(consume(broker, "q").maintain())
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        sweeping.cancel()
        await asyncio.wait([sweeping])

        assert not client.exists("unacked_mutex")


async def test_a_message_bound_to_two_queues_goes_to_both(broker: RedisBroker, client: Client) -> None:
    """Celery recorded one tag for both copies: which of them it held can't be told, and none may be lost."""
    for queue in ("a", "b"):
        client.sadd("_kombu.binding.x", f"k\x06\x16\x06\x16{queue}")
    overdue_record(client, "good", b'[%b, "x", "k"]' % redis_envelopes("task_default")[0])

    taken = await take(consume(broker, "a", "b"), 2)

    assert {delivery.queue for delivery in taken} == {"a", "b"}


# -- parked --------------------------------------------------------------------------------------------------


async def test_a_parked_message_is_ready_within_a_second_of_its_time(broker: RedisBroker) -> None:
    consumer = consume(broker, "q")
    lateness: list[float] = []
    for delay in (0.05, 0.3, 1.2):
        due = time.time() + delay
        await publish(broker, "q", 1, not_before=due)
        await ack(consumer, await take(consumer, 1))
        lateness.append(time.time() - due)

    assert min(lateness) >= 0
    assert max(lateness) < 1.0


async def test_any_worker_brings_back_what_is_due_on_any_queue(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "orphan", 1, not_before=time.time() - 1)

    await consume(broker, "another").maintain()

    assert client.llen("orphan") == 1
    assert not client.exists("asyncq.parked", "asyncq.parked.orphan", "asyncq.parked_messages.orphan")


async def test_a_retry_goes_out_with_the_rest_of_its_batch(broker: RedisBroker, client: Client) -> None:
    batch = [
        Publication(message=task(1), queue="q"),
        Publication(message=task(2, priority=7), queue="q", not_before=time.time() + 0.2),
    ]

    await broker.publish(batch)

    assert client.llen("q") == 1
    taken = await take(consume(broker, "q"), 2)
    assert numbers(taken) == [1, 2]
    assert decode_envelope(bytes_of(taken[1])).properties.priority == 7


async def test_a_wrong_key_type_on_one_queue_does_not_stop_the_others(broker: RedisBroker, client: Client) -> None:
    client.set("wrong", "text")
    for queue in ("wrong", "q"):
        client.sadd("asyncq.parked", queue)
    envelope = redis_envelopes("task_default")[0]
    for queue in ("wrong", "q"):
        client.zadd(f"asyncq.parked.{queue}", {"id": 0})
        client.hset(f"asyncq.parked_messages.{queue}", "id", b"0" + envelope)

    await take(consume(broker, "q"), 1)

    assert client.hlen("asyncq.parked_messages.wrong") == 1


async def test_a_great_many_due_messages_come_in_order(broker: RedisBroker) -> None:
    now = time.time()
    await broker.publish(
        [Publication(message=task(n), queue="q", not_before=now - 10 + n / 1000) for n in reversed(range(350))]
    )

    taken = await take(consume(broker, "q"), 350)

    assert numbers(taken) == list(range(350))


# -- leases --------------------------------------------------------------------------------------------------


async def test_a_lease_without_its_record_is_forgotten_and_restores_nothing(
    broker: RedisBroker, client: Client
) -> None:
    await publish(broker, "q", 1)
    await take(consume(broker, "q", lease=0.05), 1)
    client.delete("unacked")

    await until_maintained(broker, lambda: not client.exists("asyncq.leases"))

    assert client.llen("q") == 0


async def test_a_record_without_its_lease_comes_back_by_celerys_rule(new_broker: NewBroker, client: Client) -> None:
    """Somebody emptied asyncq's own keys; Celery's, which everybody reads, still hold the message."""
    broker = await new_broker(visibility_timeout=0.2)
    await publish(broker, "q", 1)
    await take(consume(broker, "q"), 1)
    client.delete("asyncq.leases")

    (again,) = await take(consume(broker, "q"), 1)

    assert again.redelivered


async def test_a_rescue_looks_at_the_lease_again_when_it_moves(broker: RedisBroker, url: str, client: Client) -> None:
    """Between a rescuer's look and its move the keeper extended: the delivery stays."""
    await publish(broker, "q", 1)
    consumer = consume(broker, "q")
    (delivery,) = await take(consumer, 1)
    endpoint = parse_endpoint(url)
    link = Link(endpoint, errors=BROKER_ERRORS, clock=system_environment().clock, timeout=5.0)
    records = Deliveries(link, Keys(BrokerOptions()))

    assert await records.put_back("expired", [delivery.tag], started=True) == 0
    assert await records.move("overdue", [Move(delivery.tag, "R", "q", b"stolen")], age=-1.0) == {0}

    assert client.llen("q") == 0
    await ack(consumer, [delivery])
    await link.close()


async def test_an_extended_lease_ends_by_the_servers_clock(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", 1)
    consumer = consume(broker, "q", lease=30)
    (delivery,) = await take(consumer, 1)
    client.zadd("asyncq.leases", {delivery.tag: 1})

    await consumer.extend([delivery])

    seconds, _ = client.time()
    assert client.zscore("asyncq.leases", delivery.tag) == pytest.approx(seconds + 30, abs=2)


async def test_nodes_whose_names_begin_alike_are_told_apart(broker: RedisBroker) -> None:
    for node in ("a@host", "a@host/1", "a@host2"):
        await publish(broker, "q", 1)
        await consume(broker, "q", node=node).receive(1)

    assert await broker.release("a@host") == 1
    assert await broker.release("a@host") == 0
    assert await broker.release("a") == 0
    assert await broker.release("a@host2") == 1
    assert await broker.release("a@host/1") == 1


async def test_a_released_message_keeps_its_priority_and_its_order(broker: RedisBroker) -> None:
    for priority in (9, 0):
        await publish(broker, "q", *(10 * priority + n for n in range(150)), priority=priority)
    consumer = consume(broker, "q", node="dead@host")
    await take(consumer, 300)

    assert await broker.release("dead@host") == 300

    taken = await take(consume(broker, "q"), 300)
    assert numbers(taken) == [*range(150), *range(90, 240)]


async def test_settling_needs_no_memory_of_what_was_taken(broker: RedisBroker) -> None:
    """A supervisor settles what its dead child held: only the delivery is needed."""
    await publish(broker, "q", 1, 2, priority=5)
    first, second = await take(consume(broker, "q"), 2)
    other = consume(broker, "q")

    assert await other.settle([Ack(first), Requeue(second)]) == []

    (again,) = await take(other, 1)
    assert number_of(again.content) == 2


def bytes_of(delivery: Delivery) -> bytes:
    assert isinstance(delivery.content, bytes)
    return delivery.content


def header(delivery: Delivery, name: str) -> Any:  # Any: JSON
    return json.loads(bytes_of(delivery))["headers"][name]


async def until_maintained(broker: RedisBroker, condition: Any) -> None:  # Any: a test's lambda
    consumer = consume(broker, "nothing")

    async def met() -> bool:
        await consumer.maintain()
        return condition()

    await until(met)
