"""Parked messages: held by nobody, not early, soon after they are due."""

from __future__ import annotations

from asyncq.driver import Broker, Consumer, Delivery, Park, Queue
from asyncq.testing._broker_kit import (
    BrokerFixtures,
    Consume,
    MakeBroker,
    NewBroker,
    ack,
    bodies,
    body,
    in_order,
    nothing_else,
    numbered,
    publish,
    skip_without,
    take,
)
from asyncq.testing._kit import wall, within

#: Seconds that a due message may be late: the promise is one, the second is for a loaded machine.
LATE = 2.0


class Parking(BrokerFixtures):
    async def test_a_parked_publication_is_not_early_and_soon_there(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        due = wall() + 1.0
        await publish(broker, queue, b"later", not_before=due)
        consumer = consume(broker, queue)
        await nothing_else(broker, consumer, queue)

        (delivery,) = await take_due(consumer, due)

        assert body(delivery) == b"later"
        await ack(consumer, [delivery])
        await nothing_else(broker, consumer, queue)

    async def test_a_parked_delivery_is_nobodys_until_it_is_due(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, b"0", b"1", priority=3)
        consumer = consume(await new_broker(), queue, node="parker@contract")
        (first, second) = await take(consumer, 2)
        due = wall() + 1.0

        assert await within(consumer.settle([Park(first, until=due)])) == []

        assert await within(consumer.extend([first])) == [first]
        if broker.capabilities.sees_in_flight:
            assert (await broker.depth(queue.name)).in_flight == 1
        await nothing_else(broker, consumer, queue)
        (again,) = await take_due(consumer, due)
        assert again.content == first.content or body(again) == body(first)
        await ack(consumer, [again, second])

    async def test_each_comes_in_its_own_time(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        now = wall()
        await publish(broker, queue, b"third", not_before=now + 1.2)
        await publish(broker, queue, b"first", not_before=now + 0.4)
        await publish(broker, queue, b"second", not_before=now + 0.8)

        taken = bodies(await take(consume(broker, queue), 3))
        assert in_order(broker, taken) == [b"first", b"second", b"third"]

    async def test_a_due_message_has_its_own_priority(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        order = broker.capabilities.priority_order
        if order == "none":
            skip_without("priority_order", "none")
        soonest, last = (0, 9) if order == "lowest-first" else (9, 0)
        due = wall() + 0.3
        await publish(broker, queue, b"last", priority=last, not_before=due)
        await publish(broker, queue, b"soonest", priority=soonest, not_before=due)
        consumer = consume(broker, queue)
        while (await within(broker.depth(queue.name))).ready < 2:
            await within(consumer.maintain())

        assert bodies(await take(consumer, 2)) == [b"soonest", b"last"]

    async def test_a_past_date_is_ready_soon(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"overdue", not_before=wall() - 3600)

        assert bodies(await take(consume(broker, queue), 1)) == [b"overdue"]

    async def test_everybody_may_look_for_what_is_due(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, *numbered(10), not_before=wall() + 0.3)
        other = consume(await new_broker(), queue)
        consumer = consume(broker, queue)

        taken = await take(consumer, 5) + await take(other, 5)

        assert sorted(bodies(taken)) == numbered(10)
        await nothing_else(broker, consumer, queue)

    async def test_parked_and_ready_outlive_the_instance(
        self, make_broker: MakeBroker, new_broker: NewBroker, queue: Queue, consume: Consume
    ) -> None:
        first = make_broker()
        if not first.capabilities.durable:
            skip_without("durable", "messages live as long as the store")
        await within(first.open())
        due = wall() + 2.0
        await publish(first, queue, b"later", not_before=due)
        await publish(first, queue, b"ready")
        await within(first.close())

        consumer = consume(await new_broker(), queue)

        assert bodies(await take(consumer, 1)) == [b"ready"]
        assert bodies(await take_due(consumer, due)) == [b"later"]


async def take_due(consumer: Consumer, due: float) -> list[Delivery]:
    taken = await take(consumer, 1)
    assert wall() >= due - 0.001, "early"
    assert wall() <= due + LATE, "late"
    return taken
