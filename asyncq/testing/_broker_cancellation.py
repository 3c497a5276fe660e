"""Cancelled at any await, nothing is lost, nothing is doubled, and the next call gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import Ack, Broker, Consumer, Dead, Delivery, GiveBack, Park, Queue, Requeue, Settlement
from asyncq.protocol import Properties, WireMessage
from asyncq.testing._broker_kit import (
    SHORT_LEASE,
    BrokerFixtures,
    Consume,
    MakeBroker,
    ack,
    bodies,
    declared,
    in_order,
    message_of,
    needs_sight_of_others,
    needs_sight_of_parked,
    nothing_else,
    numbered,
    publication,
    publish,
    take,
    until_ready,
)
from asyncq.testing._kit import cancel_everywhere, running, wall, within

LETTER = WireMessage(
    body=b"0",
    headers={"asyncq-dead": {"reason": "contract"}},
    properties=Properties(priority=0),
)

SETTLEMENTS: dict[str, Callable[[Delivery], Settlement]] = {
    "ack": Ack,
    "requeue": Requeue,
    "requeue-front": lambda delivery: Requeue(delivery, front=True),
    "give-back": GiveBack,
    "park": lambda delivery: Park(delivery, until=wall() + 0.2),
    "dead": lambda delivery: Dead(delivery, letter=LETTER),
}


class Cancelling(BrokerFixtures):
    async def test_a_cancelled_publish(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        """The batch is there as a whole or not at all, and never twice."""
        consumer = consume(broker, queue)
        batch = [publication(queue, b"a"), publication(queue, b"b")]

        async def check() -> None:
            await publish(broker, queue, b"marker")
            found = await until_marker(consumer)
            assert found in ([], [b"a", b"b"])

        await cancel_everywhere(lambda: broker.publish(batch), check)

    async def test_a_cancelled_receive(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        """What a cancelled receive took comes again, to the same consumer too, and once."""
        consumer = consume(broker, queue, lease=SHORT_LEASE)
        await publish(broker, queue, *numbered(3))
        held: list[Delivery] = []

        async def receive() -> None:
            held[:] = await consumer.receive(3)

        async def check() -> None:
            # What an uncancelled run took comes back like the rest: by its lease, or else by our hand.
            if not broker.capabilities.leases:
                await within(consumer.settle([GiveBack(delivery) for delivery in held]))
                held.clear()
            taken = await take(consumer, 3)
            assert sorted(bodies(taken)) == numbered(3)
            assert await within(consumer.settle([Requeue(delivery) for delivery in taken])) == []

        await cancel_everywhere(receive, check)
        await take(consumer, 3)
        await nothing_else(broker, consumer, queue)

    async def test_a_cancelled_idle_receive(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        """A cancellation that races a publish loses nothing (a plain BRPOP lost 513 of 2,000 messages)."""
        consumer = consume(broker, queue, lease=SHORT_LEASE)
        held: list[Delivery] = []
        for number in range(100):
            async with running(consumer.receive(1)) as receiving, asyncio.TaskGroup() as sending:
                for _ in range(number % 10):
                    await asyncio.sleep(0)
                sending.create_task(broker.publish([publication(queue, b"%d" % number)]))
                # The cancellation, at the end of `running`, meets another stage of the wake-up each time.
                await asyncio.sleep(0 if number % 2 else 0.0002 * (number % 20))
            if not receiving.cancelled():
                held += receiving.result()
        if not broker.capabilities.leases:
            await within(consumer.settle([GiveBack(delivery) for delivery in held]))

        # With a lease that lasts: what comes back by its lease comes up to a lease later than what stands ready.
        heir = consume(broker, queue)
        taken = await take(heir, 100)

        assert sorted(bodies(taken)) == sorted(numbered(100))
        await nothing_else(broker, heir, queue)

    @pytest.mark.parametrize("kind", SETTLEMENTS)
    async def test_a_cancelled_settle(self, broker: Broker, queue: Queue, consume: Consume, kind: str) -> None:
        """Settled or still ours; settling again settles it once and for all."""
        consumer = consume(broker, queue)
        held: list[Delivery] = []

        async def settle() -> None:
            await publish(broker, queue, b"0")
            held[:] = await take(consumer, 1)

        async def check() -> None:
            await within(consumer.settle([SETTLEMENTS[kind](held[0])]))
            assert await within(consumer.settle([Ack(held[0])])) == held
            if kind == "dead":
                (letter,) = await within(broker.peek(queue.name, "dead"))
                assert message_of(letter) == LETTER
                await within(broker.drop(queue.name, "dead", [letter.key]))
            elif kind != "ack":
                again = await take(consumer, 1)
                assert bodies(again) == [b"0"]
                await ack(consumer, again)
            await nothing_else(broker, consumer, queue)
            await settle()

        await settle()
        await cancel_everywhere(lambda: consumer.settle([SETTLEMENTS[kind](held[0])]), check)

    @pytest.mark.parametrize("call", ["extend", "maintain", "depth", "peek", "declare"])
    async def test_cancelled_calls_that_change_nothing(
        self, broker: Broker, queue: Queue, consume: Consume, call: str
    ) -> None:
        consumer = consume(broker, queue)
        await publish(broker, queue, *numbered(3))
        held = await take(consumer, 1)
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "extend": lambda: consumer.extend(held),
            "maintain": consumer.maintain,
            "depth": lambda: broker.depth(queue.name),
            "peek": lambda: broker.peek(queue.name, "ready"),
            "declare": lambda: broker.declare([queue]),
        }

        async def check() -> None:
            assert await within(consumer.extend(held)) == []
            assert (await within(broker.depth(queue.name))).ready == 2
            assert in_order(broker, bodies(await within(broker.peek(queue.name, "ready")))) == [b"1", b"2"]
            if broker.capabilities.sees_parked:
                assert bodies(await within(broker.peek(queue.name, "parked"))) == []

        await cancel_everywhere(calls[call], check)

    @pytest.mark.parametrize("call", ["purge", "move", "drop", "release"])
    async def test_cancelled_calls_of_an_operator(
        self, broker: Broker, queue: Queue, consume: Consume, call: str
    ) -> None:
        """Done or not done; never half, and a second call finishes it."""
        if call == "release":
            needs_sight_of_others(broker)
        elif call != "purge":
            needs_sight_of_parked(broker)
        consumer = consume(broker, queue, node="cancelled@contract")
        key: list[str] = []

        async def prepare() -> None:
            await publish(broker, queue, b"0")
            await until_ready(broker, queue, 1)
            if call == "release":
                await take(consumer, 1)
            elif call in {"move", "drop"}:
                await publish(broker, queue, b"parked", not_before=wall() + 600)
                key[:] = [message.key for message in await within(broker.peek(queue.name, "parked"))]

        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "purge": lambda: broker.purge(queue.name),
            "move": lambda: broker.move(queue.name, "parked", key),
            "drop": lambda: broker.drop(queue.name, "parked", key),
            "release": lambda: broker.release("cancelled@contract"),
        }
        left = {"purge": [], "move": [b"0", b"parked"], "drop": [b"0"], "release": [b"0"]}

        async def check() -> None:
            await within(calls[call]())
            await publish(broker, queue, b"marker")
            assert await until_marker(consumer) == left[call]
            if broker.capabilities.sees_parked:
                assert await within(broker.peek(queue.name, "parked")) == []
            await prepare()

        await prepare()
        await cancel_everywhere(calls[call], check)

    async def test_a_cancelled_open(self, make_broker: MakeBroker) -> None:
        """A cancelled open leaves nothing behind that a close doesn't release, and can be repeated."""
        made: list[Broker] = []

        def opening() -> Coroutine[Any, Any, None]:
            made.append(make_broker())
            return made[-1].open()

        async def check() -> None:
            await within(made[-1].open())
            await declared(made[-1], "opened")
            await within(made[-1].close())

        await cancel_everywhere(opening, check)


async def until_marker(consumer: Consumer) -> list[bytes]:
    """Take and acknowledge everything up to the marker that stands last in the queue."""
    found: list[bytes] = []
    while True:
        batch = await take(consumer, 1)
        await ack(consumer, batch)
        if bodies(batch) == [b"marker"]:
            return found
        found.extend(bodies(batch))
