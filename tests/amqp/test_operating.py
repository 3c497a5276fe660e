"""The command line on RabbitMQ, as far as AMQP alone lets it see."""

from __future__ import annotations

import asyncio

import pytest

from amqp_kit import make_broker, message, queue_name
from asyncq import AsyncQ
from asyncq._clock import system_environment
from asyncq.cli._findings import Verdict, examine
from asyncq.driver import ConsumerOptions, Dead, Place, Publication, Queue
from asyncq_brokers.amqp import AmqpBroker, operating
from servers import RabbitServer


async def test_check_names_tasks_that_rabbitmq_may_run_twice(url: str) -> None:
    async with AsyncQ("check", broker=url, backend="rpc://", default_queue=queue_name()) as queue:

        @queue.task(name="check.endless")
        async def endless() -> None: ...

        @queue.task(name="check.bounded", time_limit=600)
        async def bounded() -> None: ...

        @queue.task(name="check.early", acks_late=False)
        async def early() -> None: ...

        findings = await examine(queue)
    assert not [finding for finding in findings if finding.verdict in {Verdict.FAILED, Verdict.UNREACHABLE}]
    (note,) = [finding.text for finding in findings if "30 minutes" in finding.text]
    assert note.endswith("no time_limit of at most 25 minutes: check.endless")


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_dead_letters_stand_in_a_queue_of_the_same_type(broker: AmqpBroker, queue_type: str) -> None:
    arguments = {} if queue_type == "classic" else {"x-queue-type": queue_type}
    queue = Queue(name=queue_name(), arguments=arguments)
    await broker.declare([queue])
    await broker.publish([Publication(message=message(b"%d" % n), queue=queue.name) for n in range(3)])
    consumer = broker.consume([queue], ConsumerOptions(node="tests@host"))
    async with asyncio.timeout(15):
        taken = await consumer.receive(3)
        while len(taken) < 3:
            taken += await consumer.receive(3)
    assert await consumer.settle([Dead(delivery, message(b"letter")) for delivery in taken]) == []
    await broker.declare([Queue(name=f"{queue.name}.dead", arguments=arguments)])  # as whoever serves it would
    stored = await broker.peek(queue.name, "dead")
    assert [letter.content for letter in stored] == [message(b"letter")] * 3
    # Equal letters have one key, and each mention means one of them.
    assert await broker.drop(queue.name, "dead", [stored[0].key, stored[0].key]) == 2
    assert len(await broker.peek(queue.name, "dead")) == 1


@pytest.mark.parametrize("place", ["ready", "dead", "parked"])
async def test_looking_drops_no_message_where_returns_are_limited(
    server: RabbitServer, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """Found: after as many looks as RabbitMQ 4 allows returns, letters were gone, and ETAs came early."""
    monkeypatch.setattr(operating, "_MOST_RETURNS", 1)
    vhost = f"limit-{queue_name()}"
    await asyncio.to_thread(server.add_vhost, vhost)
    policy = ("set_policy", "-p", vhost, "limit", ".*", '{"delivery-limit":3}', "--apply-to", "queues")
    await asyncio.to_thread(server.control, *policy)
    broker = make_broker(server.url(vhost))
    quorum = {"x-queue-type": "quorum"}
    queue, dead = Queue(name="q", arguments=quorum), Queue(name="q.dead", arguments=quorum)
    due = system_environment().clock.wall() + 3600 if place == "parked" else None
    try:
        await broker.declare([queue, dead])
        target = dead if place == "dead" else queue
        await broker.publish([Publication(message=message(b"1"), queue=target.name, target=target, not_before=due)])
        keys: set[str] = set()
        for _ in range(8):
            [stored] = await broker.peek("q", place)
            assert (stored.content, stored.until) == (message(b"1"), due)
            keys.add(stored.key)
        assert await broker.drop("q", place, [*keys]) == len(keys) == 1
    finally:
        await broker.close()
