"""What becomes of a delivery."""

from __future__ import annotations

import asyncio

from asyncq.driver import Ack, Broker, Dead, Delivery, GiveBack, Park, Queue, Requeue, Settlement
from asyncq.protocol import Properties, WireMessage
from asyncq.testing._broker_kit import (
    SHORT_LEASE,
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
    publish,
    skip_without,
    take,
)
from asyncq.testing._kit import wall, within

LETTER = WireMessage(
    body=b"the letter \xff",
    headers={"task": "contract.task", "asyncq-dead": {"reason": "contract"}},
    properties=Properties(priority=0),
)


class Settling(BrokerFixtures):
    async def test_requeued_comes_behind_the_others(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_order(broker)
        await publish(broker, queue, *numbered(3))
        consumer = consume(broker, queue)
        (first,) = await take(consumer, 1)

        assert await within(consumer.settle([Requeue(first)])) == []

        again = await take(consumer, 3)
        assert bodies(again) == [b"1", b"2", b"0"]
        assert [delivery.redelivered for delivery in again] == [False, False, True]
        assert again[2].tag != first.tag

    async def test_requeued_comes_again_marked(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, *numbered(3))
        consumer = consume(broker, queue)
        first, second, third = await take(consumer, 3)

        assert await within(consumer.settle([Requeue(first), Requeue(second, front=True)])) == []

        again = await take(consumer, 2)
        assert sorted(bodies(again)) == sorted(bodies([first, second]))
        assert all(delivery.redelivered for delivery in again)
        assert {delivery.tag for delivery in again}.isdisjoint({first.tag, second.tag})
        await ack(consumer, [third, *again])

    async def test_what_came_again_and_is_parked_comes_marked(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, b"0")
        consumer = consume(broker, queue)
        (first,) = await take(consumer, 1)
        await within(consumer.settle([Requeue(first)]))
        (second,) = await take(consumer, 1)

        assert await within(consumer.settle([Park(second, until=wall() + 0.2)])) == []

        (third,) = await take(consumer, 1)
        assert third.redelivered
        await ack(consumer, [third])

    async def test_requeued_in_front_comes_first(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        needs_order(broker)
        await publish(broker, queue, *numbered(3))
        consumer = consume(broker, queue)
        (first,) = await take(consumer, 1)

        assert await within(consumer.settle([Requeue(first, front=True)])) == []

        again = await take(consumer, 3)
        assert bodies(again) == numbered(3)
        assert again[0].redelivered

    async def test_given_back_comes_first_in_the_order_it_was_taken(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        needs_order(broker)
        await publish(broker, queue, *numbered(6))
        consumer = consume(broker, queue)
        taken = await take(consumer, 4)

        # Neither the order of the call nor the one that stays matters.
        assert await within(consumer.settle([GiveBack(taken[3]), GiveBack(taken[0]), GiveBack(taken[2])])) == []

        assert bodies(await take(consumer, 5)) == [b"0", b"2", b"3", b"4", b"5"]

    async def test_given_back_keeps_its_priority(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        if broker.capabilities.priority_order == "none":
            skip_without("priority_order", "none")
        await publish(broker, queue, b"low", priority=0)
        await publish(broker, queue, b"high", priority=9)
        consumer = consume(broker, queue)
        first, second = await take(consumer, 2)

        assert await within(consumer.settle([GiveBack(second), GiveBack(first)])) == []

        assert bodies(await take(consumer, 2)) == bodies([first, second])

    async def test_settling_twice_is_reported(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0", b"1")
        consumer = consume(broker, queue)
        first, second = await take(consumer, 2)
        await ack(consumer, [first])

        assert await within(consumer.settle([Ack(first), Ack(second)])) == [first]
        assert await within(consumer.settle([Requeue(first), Ack(second)])) == [first, second]
        await nothing_else(broker, consumer, queue)

    async def test_only_the_first_settlement_of_a_batch_counts(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, b"0")
        consumer = consume(broker, queue)
        (delivery,) = await take(consumer, 1)

        assert await within(consumer.settle([Requeue(delivery), Ack(delivery)])) == [delivery]
        assert bodies(await take(consumer, 1)) == [b"0"]

    async def test_a_tag_that_nobody_gave_settles_nothing(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0")
        consumer = consume(broker, queue)
        (delivery,) = await take(consumer, 1)
        forged = Delivery(tag=delivery.tag + "0", queue=queue.name, content=delivery.content)

        assert await within(consumer.settle([Ack(forged)])) == [forged]
        assert await within(consumer.extend([forged])) == [forged]
        await ack(consumer, [delivery])

    async def test_a_stale_delivery_settles_nothing(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        if not broker.capabilities.leases:
            skip_without("leases", "deliveries don't expire")
        await publish(broker, queue, *numbered(6))
        sleeper = consume(broker, queue, lease=SHORT_LEASE)
        stale = await take(sleeper, 6)
        heir = consume(await new_broker(), queue)
        held = await take(heir, 6)

        late: list[Settlement] = [
            Ack(stale[0]),
            Requeue(stale[1]),
            Requeue(stale[2], front=True),
            GiveBack(stale[3]),
            Park(stale[4], until=wall()),
            Dead(stale[5], letter=LETTER),
        ]
        assert await within(sleeper.settle(late)) == stale
        assert await within(sleeper.extend(stale)) == stale

        await nothing_else(broker, sleeper, queue)
        await ack(heir, held)
        assert not await within(broker.peek(queue.name, "dead"))

    async def test_a_batch_settles_all_kinds_at_once(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, *numbered(5))
        consumer = consume(broker, queue)
        acked, requeued, given_back, parked, dead = await take(consumer, 5)

        batch = [Ack(acked), Requeue(requeued), GiveBack(given_back), Park(parked, wall() + 60), Dead(dead, LETTER)]
        assert await within(consumer.settle(batch)) == []

        assert in_order(broker, bodies(await take(consumer, 2))) == in_order(broker, bodies([given_back, requeued]))
        if broker.capabilities.sees_parked:
            assert bodies(await within(broker.peek(queue.name, "parked"))) == bodies([parked])
        assert bodies(await within(broker.peek(queue.name, "dead"))) == [LETTER.body]

    async def test_settling_runs_beside_a_waiting_receive(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0")
        consumer = consume(broker, queue)
        (delivery,) = await take(consumer, 1)
        receiving = asyncio.create_task(consumer.receive(1))
        try:
            await asyncio.sleep(0)
            await within(consumer.extend([delivery]))
            await within(consumer.settle([Requeue(delivery)]))

            assert bodies(await within(receiving)) == [b"0"]
        finally:
            receiving.cancel()


class DeadLetters(BrokerFixtures):
    async def test_the_letter_stands_in_the_queue_of_the_dead(
        self, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, b"0", b"1")
        consumer = consume(broker, queue)
        doomed, other = await take(consumer, 2)

        assert await within(consumer.settle([Dead(doomed, letter=LETTER)])) == []

        (letter,) = await take(consume(broker, dead_queue(queue)), 1)
        assert message_of(letter) == LETTER
        await ack(consumer, [other])
        await nothing_else(broker, consumer, queue)

    async def test_letters_keep_their_order(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, *numbered(3))
        consumer = consume(broker, queue)
        taken = await take(consumer, 3)
        letters = [Dead(delivery, letter=WireMessage(body=body(delivery), headers={})) for delivery in taken]

        await within(consumer.settle(letters[:2]))
        await within(consumer.settle(letters[2:]))

        assert in_order(broker, bodies(await within(broker.peek(queue.name, "dead")))) == numbered(3)

    async def test_a_letter_keeps_its_properties(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        await publish(broker, queue, b"0", priority=6)
        consumer = consume(broker, queue)
        (doomed,) = await take(consumer, 1)
        letter = WireMessage(body=b"0", headers={}, properties=Properties(correlation_id="c", priority=6))

        await within(consumer.settle([Dead(doomed, letter=letter)]))

        (stored,) = await within(broker.peek(queue.name, "dead"))
        assert message_of(stored) == letter


def dead_queue(queue: Queue) -> Queue:
    """design.md: dead letters of queue `q` stand in `q.dead`."""
    return Queue(name=f"{queue.name}.dead")
