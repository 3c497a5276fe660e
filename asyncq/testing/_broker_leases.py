"""Leases expire, are kept, and are given back for the dead."""

from __future__ import annotations

import asyncio

from asyncq.driver import Broker, Consumer, Queue
from asyncq.testing._broker_kit import (
    SHORT_LEASE,
    BrokerFixtures,
    Consume,
    NewBroker,
    ack,
    bodies,
    body,
    in_order,
    maintain,
    needs_order,
    needs_sight_of_others,
    nothing_else,
    numbered,
    publish,
    skip_without,
    take,
)
from asyncq.testing._kit import running, within


class Leases(BrokerFixtures):
    async def test_an_expired_delivery_comes_again(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_leases(broker)
        await publish(broker, queue, *numbered(3))
        first = await take(consume(broker, queue, lease=SHORT_LEASE), 3)
        heir = consume(await new_broker(), queue)

        again = await take(heir, 3)

        assert in_order(broker, bodies(again)) == numbered(3)
        assert all(delivery.redelivered for delivery in again)
        assert {delivery.tag for delivery in again}.isdisjoint(delivery.tag for delivery in first)
        for before, after in zip(sorted(first, key=body), sorted(again, key=body), strict=True):
            assert before.count is None or (after.count or 0) > before.count
        await ack(heir, again)

    async def test_an_expired_delivery_comes_before_the_ready_ones(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_leases(broker)
        needs_order(broker)
        await publish(broker, queue, *numbered(4))
        sleeper = consume(broker, queue, lease=SHORT_LEASE)
        await take(sleeper, 2)
        await expired(broker, sleeper, queue, 2)

        assert bodies(await take(consume(broker, queue), 4)) == numbered(4)

    async def test_an_extended_delivery_comes_once(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_leases(broker)
        await publish(broker, queue, *numbered(3))
        keeper = consume(broker, queue, lease=2.0)
        kept = await take(keeper, 3)
        other = consume(await new_broker(), queue)

        async with running(maintain(other)):
            for _ in range(10):  # two leases and a half
                await asyncio.sleep(0.5)
                assert await within(keeper.extend(kept)) == []

        await nothing_else(broker, other, queue)
        await ack(keeper, kept)

    async def test_only_what_is_lost_is_reported(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_leases(broker)
        await publish(broker, queue, *numbered(3))
        consumer = consume(broker, queue)
        first, second, third = await take(consumer, 3)
        await ack(consumer, [second])

        assert await within(consumer.extend([first, second, third])) == [second]
        await ack(consumer, [first, third])

    async def test_everybody_may_rescue_at_once(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_leases(broker)
        await publish(broker, queue, *numbered(10))
        await take(consume(broker, queue, lease=SHORT_LEASE), 10)
        rescuers = [consume(await new_broker(), queue) for _ in range(3)]

        async with running(maintain(rescuers[0])), running(maintain(rescuers[1])):
            again = await take(rescuers[2], 10)

        assert in_order(broker, bodies(again)) == numbered(10)
        await nothing_else(broker, rescuers[0], queue)

    async def test_maintain_says_when_it_is_due_again(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_leases(broker)
        consumer = consume(broker, queue, lease=SHORT_LEASE)
        await publish(broker, queue, b"0")
        await take(consumer, 1)

        assert 0 < await within(consumer.maintain()) <= 60


class Releases(BrokerFixtures):
    async def test_what_a_dead_node_held_comes_back_at_once(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_sight_of_others(broker)
        await publish(broker, queue, *numbered(5))
        dead = consume(await new_broker(), queue, node="dead@contract")
        held = await take(dead, 3)
        await ack(dead, [held[1]])

        assert await within(broker.release("dead@contract")) == 2

        again = await take(consume(broker, queue), 4)
        assert bodies(again) == [b"0", b"2", b"3", b"4"]
        assert [delivery.redelivered for delivery in again] == [True, True, False, False]
        assert await within(dead.extend([held[0], held[2]])) == [held[0], held[2]]

    async def test_what_it_had_ended_is_acknowledged(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_sight_of_others(broker)
        await publish(broker, queue, *numbered(3))
        dead, alive = consume(await new_broker(), queue, node="dead@contract"), consume(broker, queue)
        [kept] = await take(alive, 1)
        held = await take(dead, 2)

        assert await within(broker.release("dead@contract", ended={held[0].tag, kept.tag, "unheard-of"})) == 1

        assert bodies(await take(alive, 1)) == bodies([held[1]])
        assert await within(alive.extend([kept])) == []

    async def test_other_nodes_keep_theirs(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_sight_of_others(broker)
        await publish(broker, queue, b"0")
        alive = consume(broker, queue, node="alive@contract")
        held = await take(alive, 1)

        assert await within(broker.release("dead@contract")) == 0
        assert await within(broker.release("alive@contrac_")) == 0

        await nothing_else(broker, alive, queue)
        await ack(alive, held)


def needs_leases(broker: Broker) -> None:
    if not broker.capabilities.leases:
        skip_without("leases", "deliveries come back when their connection ends")


async def expired(broker: Broker, consumer: Consumer, queue: Queue, count: int) -> None:
    """Wait until so many deliveries of the queue have expired and stand on it again."""

    async def ready() -> None:
        before = (await broker.depth(queue.name)).ready
        while (await broker.depth(queue.name)).ready < before + count:
            await asyncio.sleep(await consumer.maintain())

    await within(ready())
