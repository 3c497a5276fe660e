"""Messages go in and come out: order, bytes, batches, waiting."""

from __future__ import annotations

import asyncio
import os
from typing import cast

import pytest

from asyncq.driver import Broker, Publication, Queue
from asyncq.errors import PublishError
from asyncq.protocol import Properties, WireMessage
from asyncq.testing._broker_kit import (
    BrokerFixtures,
    Consume,
    NewBroker,
    ack,
    bodies,
    body,
    in_order,
    message_of,
    needs_order,
    nothing_else,
    numbered,
    publication,
    publish,
    skip_without,
    take,
)
from asyncq.testing._kit import cpu_share, environment, running, wall, within

#: No test allocates more than this to find a limit.
LARGEST_TRIED = 64 * 1024 * 1024

BODIES = {
    "empty": b"",
    "json": b'[[1], {}, {"callbacks": null}]',
    "nul": b"\0" * 100,
    "not-utf8": bytes(range(256)),
    "mebibyte": os.urandom(1024 * 1024),
}


class Delivering(BrokerFixtures):
    async def test_first_in_first_out(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_order(broker)
        await publish(broker, queue, b"0", b"1", b"2")
        await publish(broker, queue, b"3")
        await publish(broker, queue, b"4", b"5")

        assert bodies(await take(consume(broker, queue), 6)) == numbered(6)

    async def test_receive_takes_no_more_than_its_limit(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, *numbered(5))
        consumer = consume(broker, queue)

        first = await within(consumer.receive(2))

        assert 1 <= len(first) <= 2
        taken = bodies(first + await take(consumer, 5 - len(first)))
        assert in_order(broker, taken) == numbered(5)

    async def test_no_more_than_prefetch_is_out(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        if not broker.capabilities.sees_in_flight:
            skip_without("sees_in_flight", "nobody counts what is out")
        await publish(broker, queue, *numbered(20))
        consumer = consume(broker, queue, prefetch=5)

        for _ in range(4):
            batch = await within(consumer.receive(3))
            assert ((await broker.depth(queue.name)).in_flight or 0) <= 5
            await ack(consumer, batch)

    async def test_an_acknowledged_message_is_gone(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0", b"1")
        consumer = consume(broker, queue)
        await ack(consumer, await take(consumer, 2))

        await nothing_else(broker, consumer, queue)

    async def test_each_delivery_has_a_tag_of_its_own(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, *numbered(50))

        tags = {delivery.tag for delivery in await take(consume(broker, queue), 50)}

        assert len(tags) == 50

    async def test_a_delivery_tells_queue_time_and_count(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0")
        before = environment.clock.monotonic()
        (delivery,) = await take(consume(broker, queue), 1)

        if broker.capabilities.leases:
            assert before <= delivery.asked_at <= environment.clock.monotonic()

        assert delivery.queue == queue.name
        assert not delivery.redelivered
        assert delivery.count in {None, 1}

    @pytest.mark.parametrize("content", [pytest.param(value, id=name) for name, value in BODIES.items()])
    async def test_a_body_passes_unchanged(
        self, broker: Broker, queue: Queue, consume: Consume, content: bytes
    ) -> None:
        limit = broker.capabilities.max_message_bytes
        if limit is not None and 2 * len(content) > limit:
            skip_without("max_message_bytes", "smaller than this body in its envelope")
        await publish(broker, queue, content)
        (delivery,) = await take(consume(broker, queue), 1)

        assert body(delivery) == content

    async def test_headers_and_properties_pass_unchanged(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        message = WireMessage(
            body=b"\x80\x04N.",
            headers={
                "task": "contract.task",
                "x-unknown": {"deep": [1, None, "ünïcode", {"a": True}]},
                "null": None,
                "number": 2**53 - 1,
                "empty": "",
            },
            properties=Properties(
                correlation_id="c-1", reply_to="r-1", priority=0, delivery_mode=1, expiration="60000"
            ),
            content_type="application/x-python-serialize",
            content_encoding="binary",
        )
        await within(broker.publish([Publication(message=message, queue=queue.name)]))
        (delivery,) = await take(consume(broker, queue), 1)

        assert message_of(delivery) == message

    @pytest.mark.parametrize("content", [b"", b"no envelope", bytes(range(256)), b'{"body": null}', b'[1, {"n": NaN}]'])
    async def test_bytes_come_out_as_they_went_in(
        self, broker: Broker, queue: Queue, consume: Consume, content: bytes
    ) -> None:
        consumer = consume(broker, queue)
        await publish(broker, queue, b"0")
        taken = await take(consumer, 1)
        if not isinstance(taken[0].content, bytes):
            pytest.skip("the broker carries messages and no bytes")
        batch = [Publication(message=content, queue=queue.name), publication(queue, b"1")]
        await within(broker.publish([*batch, Publication(message=content, queue=queue.name, not_before=wall() + 60)]))

        delivery, other = await take(consumer, 2)

        assert {cast("bytes", delivery.content), cast("bytes", other.content)} >= {content}
        assert b"1" in {body(one) for one in (delivery, other) if one.content != content}
        if broker.capabilities.sees_parked:
            (parked,) = await within(broker.peek(queue.name, "parked"))
            assert parked.content == content
        await ack(consumer, [*taken, delivery, other])

    async def test_a_message_that_cannot_be_encoded_is_named_and_the_others_go(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        bad = Publication(message=WireMessage(body=b"bad", headers={"x": object()}), queue=queue.name)

        with pytest.raises(PublishError) as refused:
            await within(broker.publish([publication(queue, b"0"), bad, publication(queue, b"1")]))

        assert list(refused.value.failures) == [1]
        assert in_order(broker, bodies(await take(consume(broker, queue), 2))) == [b"0", b"1"]

    async def test_a_message_that_is_too_large_is_named_and_the_others_go(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        limit = broker.capabilities.max_message_bytes
        if limit is None or limit > LARGEST_TRIED:
            skip_without("max_message_bytes", "no limit within reach")
        large = publication(queue, b"x" * (limit + 1))

        with pytest.raises(PublishError) as refused:
            await within(broker.publish([publication(queue, b"0"), large, publication(queue, b"1")]))

        assert list(refused.value.failures) == [1]
        assert in_order(broker, bodies(await take(consume(broker, queue), 2))) == [b"0", b"1"]

    async def test_empty_batches_are_nothing(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        consumer = consume(broker, queue)

        await within(broker.publish([]))
        assert await within(consumer.settle([])) == []
        assert await within(consumer.extend([])) == []

        await nothing_else(broker, consumer, queue)

    async def test_declaring_again_changes_nothing(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0")
        await within(broker.declare([queue]))

        assert bodies(await take(consume(broker, queue), 1)) == [b"0"]

    async def test_two_consumers_never_hold_one_delivery(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, *numbered(200))
        consumers = [consume(broker, queue), consume(await new_broker(), queue)]
        taken: list[bytes] = []

        async def drain(number: int) -> None:
            while True:
                batch = await consumers[number].receive(7)
                taken.extend(bodies(batch))
                await ack(consumers[number], batch)
                if len(taken) >= 200:
                    done.set()

        done = asyncio.Event()
        async with running(drain(0)), running(drain(1)):
            await within(done.wait())

        assert sorted(taken) == sorted(numbered(200))
        await nothing_else(broker, consumers[0], queue)


class Waiting(BrokerFixtures):
    async def test_an_idle_receive_is_woken_by_another_instance(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        sender = await new_broker()
        consumer = consume(broker, queue)
        for number in range(5):
            async with running(consumer.receive(1)) as receiving:
                await cpu_share(0.05)  # so that most runs find it asleep; right either way
                await publish(sender, queue, b"%d" % number)
                batch = await within(receiving, 2)
            assert bodies(batch) == [b"%d" % number]
            await ack(consumer, batch)

    async def test_a_publish_that_races_the_falling_asleep_is_heard(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        sender = await new_broker()
        consumer = consume(broker, queue)
        for number in range(60):
            async with running(consumer.receive(1)) as receiving:
                for _ in range(number % 15):
                    await asyncio.sleep(0)
                await publish(sender, queue, b"%d" % number)
                batch = await within(receiving, 5)
            assert bodies(batch) == [b"%d" % number]
            await ack(consumer, batch)

    async def test_every_waiting_consumer_gets_its_share(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        consumers = [consume(broker, queue), consume(await new_broker(), queue)]
        async with running(consumers[0].receive(1)) as first, running(consumers[1].receive(1)) as second:
            await cpu_share(0.05)
            await publish(broker, queue, b"0", b"1")

            assert sorted(bodies(await within(first) + await within(second))) == [b"0", b"1"]

    async def test_an_idle_receive_uses_no_cpu(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        consumer = consume(broker, queue)
        async with running(consumer.receive(1)):
            await cpu_share(0.1)  # settle in
            assert await cpu_share(0.5) < 0.2  # a busy loop takes 1.0
