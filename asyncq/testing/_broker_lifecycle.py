"""Opening, closing, restarts, and a server that answers nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import Ack, Broker, Delivery, Queue, Requeue
from asyncq.errors import BrokerConnectionError
from asyncq.testing._broker_kit import (
    SHORT_LEASE,
    BrokerFixtures,
    Consume,
    Freeze,
    MakeBroker,
    NewBroker,
    Restart,
    ack,
    bodies,
    nothing_else,
    numbered,
    publication,
    publish,
    reconnected,
    skip_without,
    take,
)
from asyncq.testing._kit import LATE, cpu_share, environment, running, wall, within

#: Microseconds after which a receive is disturbed, so that it is caught at another stage each time.
PAUSES = (0, 1, 20, 50, 100, 200, 400, 800, 1500)


async def pause_for(microseconds: int) -> None:
    """Let the loop run for so long, without the timer's own coarse steps."""
    until = environment.clock.monotonic() + microseconds / 1e6
    await asyncio.sleep(0)
    while environment.clock.monotonic() < until:
        await asyncio.sleep(0)


class Closing(BrokerFixtures):
    async def test_closing_a_consumer_ends_its_receive(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        consumer = consume(broker, queue)
        receiving = asyncio.create_task(consumer.receive(1))
        await cpu_share(0.05)  # so that most runs find it waiting; right either way

        await within(consumer.close(), 1.0)

        with pytest.raises(BrokerConnectionError):
            await within(receiving, 1.0)

    async def test_closing_gives_back_what_nobody_was_handed(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, *numbered(20))
        held: list[Delivery] = []
        for pause in PAUSES:
            consumer = consume(await new_broker(), queue)
            held += await within(consumer.receive(1))
            receiving = asyncio.create_task(consumer.receive(1))
            await pause_for(pause)
            await within(consumer.close(), 1.0)
            with contextlib.suppress(BrokerConnectionError):
                held += await within(receiving, 1.0)

        if not broker.capabilities.leases:
            held.clear()  # a connection that ends gives everything back
        again = await take(consume(broker, queue), 20 - len(held))

        assert sorted(bodies(held + again)) == sorted(numbered(20))

    async def test_closing_the_broker_gives_back_what_nobody_was_handed(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        await publish(broker, queue, *numbered(20))
        held: list[Delivery] = []
        for pause in PAUSES:
            closing = await new_broker()
            receiving = asyncio.create_task(consume(closing, queue).receive(1))
            await pause_for(pause)
            await within(closing.close(), 2.0)
            with contextlib.suppress(BrokerConnectionError):
                held += await within(receiving, 1.0)

        if not broker.capabilities.leases:
            held.clear()  # a connection that ends gives everything back
        again = await take(consume(broker, queue), 20 - len(held))

        assert sorted(bodies(held + again)) == sorted(numbered(20))

    async def test_closing_keeps_what_is_in_hand(
        self, new_broker: NewBroker, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        if not broker.capabilities.leases:
            skip_without("leases", "a connection that ends gives everything back")
        await publish(broker, queue, b"0")
        closed = consume(await new_broker(), queue, lease=SHORT_LEASE)
        await take(closed, 1)
        await within(closed.close(), 1.0)
        consumer = consume(broker, queue)
        await nothing_else(broker, consumer, queue)

        assert bodies(await take(consumer, 1)) == [b"0"]

    async def test_a_closed_consumer_receives_no_more(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        consumer = consume(broker, queue)
        await within(consumer.close())
        await within(consumer.close())

        with pytest.raises(BrokerConnectionError):
            await within(consumer.receive(1))

    async def test_closing_the_broker_ends_calls_under_way(
        self, new_broker: NewBroker, queue: Queue, consume: Consume
    ) -> None:
        broker = await new_broker()
        receiving = asyncio.create_task(consume(broker, queue).receive(1))
        await cpu_share(0.05)

        await within(broker.close(), 2.0)
        await within(broker.close(), 2.0)

        with pytest.raises(BrokerConnectionError):
            await within(receiving, 1.0)
        with pytest.raises(BrokerConnectionError):
            await within(broker.publish([publication(queue, b"0")]))

    async def test_nothing_is_left_running(self, make_broker: MakeBroker) -> None:
        before = asyncio.all_tasks()
        broker = make_broker()
        await within(broker.open())
        await publish(broker, "contract-tasks", b"0")
        await within(broker.purge("contract-tasks"))
        await within(broker.close())

        assert asyncio.all_tasks() == before

    async def test_last_contact_is_the_last_answer(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        consumer = consume(broker, queue)
        await publish(broker, queue, b"0")
        (delivery,) = await take(consumer, 1)
        before = consumer.last_contact
        await asyncio.sleep(0.01)

        await ack(consumer, [delivery])

        assert consumer.last_contact > before

    async def test_it_says_where_it_is(self, broker: Broker) -> None:
        assert broker.address


class Restarting(BrokerFixtures):
    async def test_a_restarted_server_serves_the_same_objects(
        self, restart: Restart, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        if not broker.capabilities.durable:
            skip_without("durable", "messages don't outlive the server")
        await publish(broker, queue, b"parked", not_before=wall() + 1.0)
        await publish(broker, queue, b"held", b"ready")
        consumer = consume(broker, queue)
        (held,) = await take(consumer, 1)

        await restart()

        await reconnected(lambda: broker.depth(queue.name))
        if broker.capabilities.leases:
            await reconnected(lambda: consumer.extend([held]))
            await reconnected(lambda: consumer.settle([Ack(held)]))
            assert sorted(bodies(await take(consumer, 2))) == [b"parked", b"ready"]
        else:
            assert sorted(set(bodies(await take(consumer, 3)))) == [b"held", b"parked", b"ready"]

    async def test_a_waiting_receive_survives_or_says_so(
        self, restart: Restart, broker: Broker, queue: Queue, consume: Consume
    ) -> None:
        consumer = consume(broker, queue)
        received: list[bytes] = []

        async def worker() -> None:
            while not received:
                try:
                    received.extend(bodies(await consumer.receive(1)))
                except BrokerConnectionError:
                    await asyncio.sleep(0.05)

        async with running(worker()) as working:
            await cpu_share(0.05)
            await restart()
            await reconnected(lambda: broker.depth(queue.name))
            await publish(broker, queue, b"0")
            await within(working)

        assert received == [b"0"]


class Frozen(BrokerFixtures):
    """Each call ends by the driver's own deadline, and the object recovers."""

    async def test_no_call_hangs(self, freeze: Freeze, new_broker: NewBroker, consume: Consume, queue: Queue) -> None:
        broker = await new_broker(timeout=0.5)
        await publish(broker, queue, b"0", b"1")
        consumer = consume(broker, queue)
        held = await take(consumer, 1)
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: broker.publish([publication(queue, b"lost?")]),
            lambda: consumer.settle([Requeue(held[0])]),
            lambda: consumer.extend(held),
            lambda: consumer.receive(1),
            consumer.maintain,
            lambda: broker.depth(queue.name),
            lambda: broker.peek(queue.name, "ready"),
            lambda: broker.move(queue.name, "dead", ["0"]),
            lambda: broker.drop(queue.name, "dead", ["0"]),
            lambda: broker.release("nobody@contract"),
        ]

        async with freeze():
            with pytest.raises(BrokerConnectionError):
                await within(broker.publish([publication(queue, b"refused")]), 0.5 + LATE)
            for call in calls:
                with contextlib.suppress(BrokerConnectionError):
                    await within(call(), 0.5 + LATE)
            await within(consumer.close(), 1.0 + LATE)

        await reconnected(lambda: broker.depth(queue.name))
        await publish(broker, queue, b"after")
        assert (await within(broker.depth(queue.name))).ready >= 1

    async def test_opening_does_not_hang(
        self,
        freeze: Freeze,
        make_broker: MakeBroker,
        broker: Broker,  # noqa: ARG002 - that the server can be used before it freezes
    ) -> None:
        late = make_broker(timeout=0.5)
        async with freeze():
            with contextlib.suppress(BrokerConnectionError):
                await within(late.open(), 0.5 + LATE)
            await within(late.close(), 2.0)
