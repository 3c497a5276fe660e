"""Who is served first: priorities, and queues in turns."""

from __future__ import annotations

import pytest

from asyncq.driver import Broker, Queue
from asyncq.testing._broker_kit import (
    BrokerFixtures,
    Consume,
    ack,
    bodies,
    declared,
    message_of,
    needs_order,
    publish,
    skip_without,
    take,
)
from asyncq.testing._kit import within


class Ordering(BrokerFixtures):
    async def test_priority_steps_are_strict(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        order = broker.capabilities.priority_order
        if order == "none":
            skip_without("priority_order", "none")
        for priority in (6, 0, 9, 3, 9, 6, 3, 0):
            await publish(broker, queue, b"%d" % priority, priority=priority)

        taken = bodies(await take(consume(broker, queue), 8))

        expected = [b"0", b"0", b"3", b"3", b"6", b"6", b"9", b"9"]
        assert taken == (expected if order == "lowest-first" else expected[::-1])

    async def test_within_a_step_first_in_first_out(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_order(broker)
        for priority, label in ((0, b"a"), (9, b"b"), (0, b"c"), (9, b"d")):
            await publish(broker, queue, label, priority=priority)
        consumer = consume(broker, queue)

        taken = bodies(await take(consumer, 4))

        assert taken.index(b"a") < taken.index(b"c")
        assert taken.index(b"b") < taken.index(b"d")

    @pytest.mark.parametrize("number", [None, 0, 1, 4, 9, 12, 255])
    async def test_the_number_travels_unchanged(
        self, broker: Broker, queue: Queue, consume: Consume, number: int | None
    ) -> None:
        await publish(broker, queue, b"0", priority=number)
        (delivery,) = await take(consume(broker, queue), 1)

        assert (message_of(delivery).properties.priority or 0) == (number or 0)

    @pytest.mark.parametrize("limit", [1, 10])
    async def test_queues_take_turns(self, broker: Broker, consume: Consume, limit: int) -> None:
        queues = [await declared(broker, label) for label in ("a", "b", "c")]
        for queue in queues:
            await publish(broker, queue, *[queue.name.encode()] * 50)
        consumer = consume(broker, *queues, prefetch=limit)

        served: list[str] = []
        for _ in range(12):
            batch = await within(consumer.receive(limit))
            served.extend(delivery.queue for delivery in batch)
            await ack(consumer, batch)

        assert set(served) == {queue.name for queue in queues}

    async def test_a_flooded_queue_starves_no_other(self, broker: Broker, consume: Consume) -> None:
        flooded, quiet = await declared(broker, "flooded"), await declared(broker, "quiet")
        await publish(broker, flooded, *[b"flood"] * 150)
        await publish(broker, quiet, b"quiet")
        consumer = consume(broker, flooded, quiet, prefetch=1)

        for _ in range(100):
            batch = await within(consumer.receive(1))
            await ack(consumer, batch)
            if bodies(batch) == [b"quiet"]:
                return
        pytest.fail("100 receives, none from the quiet queue")
