"""What stands on the server is what kombu puts there, and what kombu put there is understood."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from asyncq.driver import Dead, GiveBack, Park, Publication, Queue, Requeue
from asyncq.errors import ConfigurationError, PublishError
from asyncq.protocol import decode_envelope, decode_task
from asyncq_brokers.redis import RedisBroker
from golden import load, redis_envelopes
from redis_kit import SEP, Client, NewBroker, ack, consume, number_of, numbers, publish, take, task

CAPTURED_TASKS = [
    "task_default",
    "task_gzip",
    "task_headers",
    "task_pickle",
    "task_priority_0",
    "task_priority_3",
    "task_priority_5",
    "task_priority_9",
    "task_priority_12",
    "task_countdown",
]


def captured_lists(name: str) -> dict[str, list[bytes]]:
    """List -> elements, head first, of a captured database."""
    keys: dict[str, Any] = load("redis", name)["keys"]
    return {key: [text.encode() for text in value["lrange_0_-1"]] for key, value in keys.items()}


# -- publishing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CAPTURED_TASKS if "priority" in name or name == "task_default"])
async def test_a_message_goes_to_the_list_that_kombu_takes(broker: RedisBroker, client: Client, name: str) -> None:
    ((key, (element,)),) = captured_lists(name).items()

    await broker.publish([Publication(message=decode_envelope(element), queue="celery")])

    assert [stored.decode() for stored in client.keys("*")] == [key]


async def test_an_envelope_has_kombus_fields(broker: RedisBroker, client: Client) -> None:
    ((_, (captured,)),) = captured_lists("task_default").items()

    await broker.publish([Publication(message=decode_envelope(captured), queue="celery")])

    ours, kombus = json.loads(client.lpop("celery") or b""), json.loads(captured)
    assert ours["properties"].pop("delivery_tag") != kombus["properties"].pop("delivery_tag")
    assert ours == kombus


async def test_delivery_tags_are_unique(new_broker: NewBroker, client: Client) -> None:
    """Celery records what it holds under them."""
    for broker in (await new_broker(), await new_broker()):
        await publish(broker, "q", *range(50))

    tags = {json.loads(element)["properties"]["delivery_tag"] for element in client.lrange("q", 0, -1)}
    assert len(tags) == 100


async def test_the_first_of_a_batch_is_served_first(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", 0, 1, 2)

    assert [number_of(client.rpop("q") or b"") for _ in range(3)] == [0, 1, 2]


async def test_an_exchange_is_followed_through_its_bindings(broker: RedisBroker, client: Client) -> None:
    await broker.declare(
        [
            Queue(name="a", exchange="x", routing_key="k"),
            Queue(name="b", exchange="x", routing_key="k"),
            Queue(name="c", exchange="x", routing_key="other"),
        ]
    )

    await publish(broker, "a", 1, exchange="x", routing_key="k")

    assert client.llen("a") == client.llen("b") == 1
    assert client.llen("c") == 0
    assert client.lrange("a", 0, -1) == client.lrange("b", 0, -1)
    (element,) = client.lrange("a", 0, -1)
    assert json.loads(element)["properties"]["delivery_info"] == {"exchange": "x", "routing_key": "k"}


@pytest.mark.parametrize(
    ("routing_key", "queues"),
    [("a.b.c", {"star", "hash"}), ("a.b", {"hash"}), ("a", set[str]()), ("b.b.c", set[str]())],
)
async def test_a_topic_is_matched_as_kombu_matches_it(
    broker: RedisBroker, client: Client, routing_key: str, queues: set[str]
) -> None:
    star = Queue(name="star", exchange="t", exchange_type="topic", routing_key="a.*.c")
    below = Queue(name="hash", exchange="t", exchange_type="topic", routing_key="a.#")
    await broker.declare([star, below])

    await publish(broker, "unbound", 1, exchange="t", routing_key=routing_key)

    assert {name for name in ("star", "hash", "unbound") if client.exists(name)} == queues or {"unbound"}


async def test_what_no_binding_takes_goes_to_the_queue_that_was_named(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", 1, exchange="nobody", routing_key="knows")

    assert client.llen("q") == 1


@pytest.mark.parametrize(
    "name", ["", "unacked", "unacked_index", "unacked_mutex", "asyncq.leases", "_kombu.binding.x", f"q{SEP}3", "q\0"]
)
async def test_a_queue_that_would_overwrite_other_keys_is_refused(broker: RedisBroker, name: str) -> None:
    with pytest.raises(ConfigurationError):
        await broker.declare([Queue(name=name)])
    with pytest.raises(ConfigurationError):
        consume(broker, name)
    with pytest.raises(PublishError) as refused:
        await broker.publish(
            [Publication(message=task(1), queue="good"), Publication(message=task(2), queue=name)],
        )

    assert list(refused.value.failures) == [1]
    assert (await broker.depth("good")).ready == 1


async def test_a_key_of_another_type_refuses_its_own_messages_alone(broker: RedisBroker, client: Client) -> None:
    client.set("text", "no list")
    batch = [Publication(message=task(number), queue=queue) for number, queue in enumerate(["q", "text", "q"])]

    with pytest.raises(PublishError) as refused:
        await broker.publish(batch)

    assert list(refused.value.failures) == [1]
    assert client.llen("q") == 2


# -- declaring -----------------------------------------------------------------------------------------------


async def test_bindings_are_those_of_an_idle_celery_worker(broker: RedisBroker, client: Client) -> None:
    captured = load("redis", "keys_idle_worker")["keys"]

    await broker.declare([Queue(name="celery")])

    for key in ("_kombu.binding.celery", "_kombu.binding_permanent.celery"):
        assert {member.decode() for member in client.smembers(key)} == set(captured[key]["value"])


async def test_a_topic_binding_is_kombus_to_the_letter(broker: RedisBroker, client: Client) -> None:
    queue = Queue(name="t-1", exchange="t", exchange_type="topic", routing_key="a_b.*.c-d.#")

    await broker.declare([queue])

    expected = SEP.join(["a_b.*.c-d.#", r"^a\_b\.[^\.]+\.c\-d\..*?$", "t-1"])
    assert client.smembers("_kombu.binding.t") == {expected.encode()}


async def test_an_expiring_queue_is_bound_for_a_while(broker: RedisBroker, client: Client) -> None:
    await broker.declare([Queue(name="brief", arguments={"x-expires": 60_000})])
    await publish(broker, "brief", 1)

    assert client.smembers("_kombu.binding.brief") == {f"brief{SEP}{SEP}brief".encode()}
    assert not client.exists("_kombu.binding_permanent.brief")
    deadline = client.zscore("_kombu.binding_deadlines", "brief") or 0
    assert deadline / 1000 == pytest.approx(time.time() + 3600, abs=60)
    assert 0 < client.pttl("brief") <= 60_000


# -- taking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURED_TASKS)
async def test_what_celery_sent_is_taken_byte_for_byte(broker: RedisBroker, client: Client, name: str) -> None:
    ((key, (element,)),) = captured_lists(name).items()
    client.lpush(key, element)

    (delivery,) = await take(consume(broker, "celery"), 1)

    assert delivery.content == element
    assert delivery.queue == "celery"
    assert not client.exists(key)


async def test_what_is_held_is_recorded_as_celery_records_it(broker: RedisBroker, client: Client) -> None:
    """The record of a restore by Celery: `[message, "", queue]`, with a score of the server's clock."""
    before = time.time()
    await publish(broker, "q", 1, 2)

    deliveries = await take(consume(broker, "q"), 2)

    records = client.hgetall("unacked")
    assert set(records) == {delivery.tag.encode() for delivery in deliveries}
    for delivery in deliveries:
        assert isinstance(delivery.content, bytes)
        message, exchange, routing_key = json.loads(records[delivery.tag.encode()])
        assert (message, exchange, routing_key) == (json.loads(delivery.content), "", "q")
    scores = [client.zscore("unacked_index", delivery.tag) or 0 for delivery in deliveries]
    assert before - 1 <= scores[0] < scores[1] <= time.time() + 1
    captured: list[str] = list(load("redis", "unacked")["keys"]["unacked"]["value"].values())
    assert all(len(json.loads(record)) == 3 for record in captured)


async def test_every_key_goes_when_the_work_is_done(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", *range(5))
    consumer = consume(broker, "q")
    acked, requeued, back, parked, dead = await take(consumer, 5)
    await ack(consumer, [acked])
    await consumer.settle(
        [Requeue(requeued), GiveBack(back), Park(parked, until=time.time() + 0.05), Dead(dead, letter=task(9))]
    )
    await ack(consumer, await take(consumer, 3))

    letters = consume(broker, "q.dead")
    await ack(letters, await take(letters, 1))

    assert client.keys("*") == []


async def test_asyncqs_own_keys_can_be_told_from_celerys(new_broker: NewBroker, client: Client) -> None:
    broker = await new_broker(global_keyprefix="team1:")
    await broker.declare([Queue(name="q")])
    client.lpush("team1:q", b"no JSON", redis_envelopes("task_default")[0], redis_envelopes("task_default")[0])
    await publish(broker, "q", 1, not_before=time.time() + 60)
    await publish(broker, "q", 2)
    await take(consume(broker, "q"), 3)

    assert {key.decode() for key in client.keys("*")} == {
        "team1:q",
        "team1:_kombu.binding.q",
        "team1:_kombu.binding_permanent.q",
        "team1:unacked",
        "team1:unacked_index",
        "team1:asyncq.leases",
        "team1:asyncq.unreadable",
        "team1:asyncq.parked",
        "team1:asyncq.parked.q",
        "team1:asyncq.parked_messages.q",
    }


async def test_key_names_are_the_options(new_broker: NewBroker, client: Client) -> None:
    broker = await new_broker(
        unacked_key="u", unacked_index_key="i", sep=":", priority_steps=list(range(10)), visibility_timeout=60
    )
    await publish(broker, "q", 1, priority=5)
    assert client.keys("*") == [b"q:5"]

    await take(consume(broker, "q"), 1)

    assert set(client.keys("*")) == {b"u", b"i", b"asyncq.leases"}


async def test_steps_are_strict_and_queues_share_a_step(broker: RedisBroker) -> None:
    for queue in ("a", "b"):
        await publish(broker, queue, *([9] * 10), priority=9)
        await publish(broker, queue, *([0] * 10), priority=0)

    first = await consume(broker, "a", "b").receive(30)

    assert [number_of(delivery.content) for delivery in first] == [0] * 20 + [9] * 10
    for served in (first[:20], first[20:]):
        queues = [delivery.queue for delivery in served]
        assert queues.count("a") == queues.count("b")


async def test_a_shares_what_the_others_do_not_need(broker: RedisBroker) -> None:
    await publish(broker, "few", 1, 2)
    await publish(broker, "many", *range(20))

    taken = await consume(broker, "few", "many").receive(20)

    queues = [delivery.queue for delivery in taken]
    assert (queues.count("few"), queues.count("many")) == (2, 18)


@pytest.mark.parametrize(("strategy", "expected"), [("priority", ["b", "b", "a"]), ("sorted", ["a", "a", "b"])])
async def test_a_fixed_order_of_queues_is_kept(new_broker: NewBroker, strategy: str, expected: list[str]) -> None:
    broker = await new_broker(queue_order_strategy=strategy)
    for queue in ("a", "b"):
        await publish(broker, queue, 1, 2)

    taken = await take(consume(broker, "b", "a"), 3)

    assert [delivery.queue for delivery in taken] == expected


async def test_a_claim_has_a_bound_in_bytes(broker: RedisBroker, client: Client) -> None:
    """A hundred messages of a megabyte do not come in one piece, and one that is larger than the bound comes alone."""
    megabyte = b'{"body": "%b"}' % (b"x" * 1024 * 1024)
    client.lpush("q", *([megabyte] * 50), b'{"body": "%b"}' % (b"x" * 40 * 1024 * 1024))
    consumer = consume(broker, "q")

    first = await consumer.receive(100)
    second = await consumer.receive(100)

    assert 30 <= len(first) <= 34
    assert sum(len(delivery.content) for delivery in second if isinstance(delivery.content, bytes)) < 80 * 1024 * 1024
    assert client.hlen("unacked") == len(first) + len(second)


# -- giving back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [None, 0, 3, 9, 12])
async def test_a_requeue_marks_the_message_as_kombu_does(
    broker: RedisBroker, client: Client, priority: int | None
) -> None:
    await publish(broker, "q", 1, priority=priority)
    (name,) = client.keys("q*")
    (before,) = client.lrange(name, 0, -1)
    consumer = consume(broker, "q")

    await consumer.settle([Requeue(delivery) for delivery in await take(consumer, 1)])

    (after,) = client.lrange(name, 0, -1)
    expected = json.loads(before)
    expected["headers"]["redelivered"] = True
    expected["properties"]["delivery_info"]["redelivered"] = True
    assert json.loads(after) == expected
    (again,) = await take(consumer, 1)
    assert again.redelivered
    assert decode_task(again.content).redelivered


async def test_a_mark_keeps_what_other_languages_may_send(broker: RedisBroker, client: Client) -> None:
    envelope = json.loads(redis_envelopes("task_default")[0])
    envelope["headers"] |= {"big": 2**80, "float": 1e400, "empty": [], "lone": "\ud800", "ünïcode": 1.5}
    client.lpush("q", json.dumps(envelope))
    consumer = consume(broker, "q")

    await consumer.settle([Requeue(delivery) for delivery in await take(consumer, 1)])

    after = json.loads(client.lrange("q", 0, -1)[0])
    assert {name: after["headers"][name] for name in envelope["headers"]} == envelope["headers"]


async def test_what_was_given_back_has_not_changed(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", *range(3))
    before = client.lrange("q", 0, -1)
    consumer = consume(broker, "q")

    await consumer.settle([GiveBack(delivery) for delivery in await take(consumer, 3)])

    assert client.lrange("q", 0, -1) == before


async def test_a_dead_letter_is_an_ordinary_message(broker: RedisBroker, client: Client) -> None:
    await publish(broker, "q", 1)
    consumer = consume(broker, "q")
    (doomed,) = await take(consumer, 1)

    await consumer.settle([Dead(doomed, letter=task(7, priority=9))])

    (element,) = client.lrange("q.dead", 0, -1)
    assert number_of(element) == 7
    assert json.loads(element)["properties"]["delivery_info"]["routing_key"] == "q.dead"
    assert numbers(await take(consume(broker, "q.dead"), 1)) == [7]
