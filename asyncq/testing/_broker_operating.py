"""What an operator sees and does: depth, purge, peek, move, drop."""

from __future__ import annotations

import pytest

from asyncq.driver import Broker, Dead, Park, Place, Queue
from asyncq.protocol import WireMessage
from asyncq.testing._broker_kit import (
    BrokerFixtures,
    Consume,
    NewBroker,
    ack,
    bodies,
    body,
    needs_sight_of_parked,
    nothing_else,
    numbered,
    publish,
    take,
    until_ready,
)
from asyncq.testing._kit import wall, within

PLACES: tuple[Place, ...] = ("ready", "parked", "dead")


class Operating(BrokerFixtures):
    async def test_depth_counts_each_place(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, *numbered(7))
        consumer = consume(broker, queue)
        taken = await take(consumer, 4)
        letter = WireMessage(body=b"dead", headers={})
        await within(consumer.settle([Park(taken[0], until=wall() + 60), Dead(taken[1], letter=letter)]))

        await until_ready(broker, queue, 3)
        depth = await within((await new_broker()).depth(queue.name))

        assert depth.parked in {None, 1}
        assert depth.dead in {None, 1}
        assert depth.in_flight == (2 if broker.capabilities.sees_in_flight else depth.in_flight)

    async def test_an_unknown_queue_is_empty(self, broker: Broker, queue: Queue) -> None:
        depth = await within(broker.depth(f"{queue.name}-unknown"))

        assert (depth.ready, depth.in_flight or 0, depth.parked or 0, depth.dead or 0) == (0, 0, 0, 0)
        assert await within(broker.purge(f"{queue.name}-unknown")) == 0
        assert await within(broker.peek(f"{queue.name}-unknown", "ready")) == []

    async def test_purge_drops_what_is_ready_and_nothing_else(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        consumer = consume(broker, queue)
        await fill(broker, "ready", consumer_queue=queue, consume=consume)
        await publish(broker, queue, b"held", priority=0)
        (held,) = await take(consumer, 1)
        before = await within(broker.depth(queue.name))

        assert await within(broker.purge(queue.name)) == before.ready

        depth = await within(broker.depth(queue.name))
        assert depth.ready == 0
        assert depth.parked == before.parked
        assert depth.dead == before.dead
        await ack(consumer, [held])

    @pytest.mark.parametrize("place", PLACES)
    async def test_peek_shows_in_order_and_takes_nothing(
        self, broker: Broker, queue: Queue, consume: Consume, place: Place
    ) -> None:
        await fill(broker, place, consumer_queue=queue, consume=consume)

        stored = await within(broker.peek(queue.name, place))

        assert bodies(stored) == [b"%s-%d" % (place.encode(), number) for number in range(3)]
        assert bodies(await within(broker.peek(queue.name, place, limit=2))) == bodies(stored[:2])
        assert len({message.key for message in stored}) == 3
        assert all(message.queue == queue.name for message in stored)
        assert all((message.until is not None) == (place == "parked") for message in stored)
        assert bodies(await take(consume(broker, queue), 3)) == [b"ready-0", b"ready-1", b"ready-2"]

    @pytest.mark.parametrize("place", PLACES)
    async def test_peek_can_begin_further_behind(
        self, broker: Broker, queue: Queue, consume: Consume, place: Place
    ) -> None:
        await fill(broker, place, consumer_queue=queue, consume=consume)
        if place == "ready":
            await publish(broker, queue, b"ready-3", b"ready-4", priority=9)
        everything = bodies(await within(broker.peek(queue.name, place)))

        for offset in range(len(everything) + 2):
            assert bodies(await within(broker.peek(queue.name, place, offset=offset))) == everything[offset:]
            page = await within(broker.peek(queue.name, place, limit=2, offset=offset))
            assert bodies(page) == everything[offset : offset + 2]

    @pytest.mark.parametrize("place", PLACES)
    async def test_dropped_messages_are_gone(
        self, broker: Broker, queue: Queue, consume: Consume, place: Place
    ) -> None:
        await fill(broker, place, consumer_queue=queue, consume=consume)
        first, second, third = await within(broker.peek(queue.name, place))

        assert await within(broker.drop(queue.name, place, [first.key, third.key, "no-such-key"])) == 2

        assert await within(broker.drop(queue.name, place, [first.key])) == 0
        assert bodies(await within(broker.peek(queue.name, place))) == [body(second)]

    @pytest.mark.parametrize("place", ["parked", "dead"])
    async def test_moved_messages_stand_on_their_queue_again(
        self, broker: Broker, queue: Queue, consume: Consume, place: Place
    ) -> None:
        await fill(broker, place, consumer_queue=queue, consume=consume)
        await within(broker.purge(queue.name))
        first, second, third = await within(broker.peek(queue.name, place))

        assert await within(broker.move(queue.name, place, [first.key, second.key, "no-such-key"])) == 2

        consumer = consume(broker, queue)
        moved = await take(consumer, 2)
        assert bodies(moved) == [body(first), body(second)]
        assert bodies(await within(broker.peek(queue.name, place))) == [body(third)]
        await ack(consumer, moved)
        await nothing_else(broker, consumer, queue)

    @pytest.mark.parametrize("place", PLACES)
    async def test_moved_until_a_date_is_parked(
        self, broker: Broker, queue: Queue, consume: Consume, place: Place
    ) -> None:
        await fill(broker, place, consumer_queue=queue, consume=consume)
        first, *_ = await within(broker.peek(queue.name, place))
        until = wall() + 1.0

        assert await within(broker.move(queue.name, place, [first.key], until=until)) == 1

        if broker.capabilities.sees_parked:
            parked = {body(message): message.until for message in await within(broker.peek(queue.name, "parked"))}
            assert parked[body(first)] == pytest.approx(until, abs=0.001)
        consumer = consume(broker, queue)
        while bodies(await take(consumer, 1)) != [body(first)]:
            pass  # one that was left where it stood
        assert wall() >= until - 0.001

    async def test_keys_of_one_place_mean_nothing_in_another(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await fill(broker, "parked", consumer_queue=queue, consume=consume)
        parked = [message.key for message in await within(broker.peek(queue.name, "parked"))]

        assert await within(broker.drop(queue.name, "ready", parked)) == 0
        assert await within(broker.drop(f"{queue.name}-other", "parked", parked)) == 0
        assert len(await within(broker.peek(queue.name, "parked"))) == 3


async def fill(broker: Broker, place: Place, *, consumer_queue: Queue, consume: Consume) -> None:
    """Three messages in each place of the queue, for a test that looks at one of them."""
    if place == "parked":
        needs_sight_of_parked(broker)
    consumer = consume(broker, consumer_queue)
    await publish(broker, consumer_queue, *[b"doomed"] * 3)
    doomed = await take(consumer, 3)
    letters = [WireMessage(body=b"dead-%d" % number, headers={}) for number in range(3)]
    await within(consumer.settle([Dead(one, letter=letter) for one, letter in zip(doomed, letters, strict=True)]))
    await within(consumer.close())
    due = wall() + 600
    for number in range(3):
        await publish(broker, consumer_queue, b"parked-%d" % number, not_before=due + number)
        await publish(broker, consumer_queue, b"ready-%d" % number)
