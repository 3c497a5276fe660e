"""The fixtures of the broker suite, and the few verbs that its tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NoReturn, Protocol

import pytest

from asyncq.driver import Ack, Broker, Consumer, ConsumerOptions, Delivery, Publication, Queue, Stored
from asyncq.errors import BrokerConnectionError
from asyncq.protocol import Properties, WireMessage, decode_envelope
from asyncq.testing._kit import environment, running, within

#: Seconds of a lease that a test lets expire, and of one that it does not.
SHORT_LEASE = 0.5
LONG_LEASE = 60.0


class MakeBroker(Protocol):
    """Makes a further, unopened instance on the same store, as another process would."""

    def __call__(self, *, timeout: float = 10.0) -> Broker: ...


class NewBroker(Protocol):
    """Makes a further instance and opens it; the suite closes it."""

    async def __call__(self, *, timeout: float = 10.0) -> Broker: ...


class Consume(Protocol):
    """Makes a consumer; the suite closes it."""

    def __call__(
        self, broker: Broker, *queues: Queue, node: str = ..., lease: float = LONG_LEASE, prefetch: int = 200
    ) -> Consumer: ...


#: Stops the server and starts it again with its data.
Restart = Callable[[], Awaitable[None]]
#: `async with freeze(): …`: the server keeps its connections and answers nobody.
Freeze = Callable[[], AbstractAsyncContextManager[None]]


class BrokerFixtures:
    """What a driver's test class overrides, and what the suite makes of it."""

    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        raise NotImplementedError("override make_broker: asyncq.testing says how")

    @pytest.fixture
    def restart(self) -> Restart:
        pytest.skip("no `restart` fixture: the store has no server to restart")

    @pytest.fixture
    def freeze(self) -> Freeze:
        pytest.skip("no `freeze` fixture: the store has no server to freeze")

    @pytest.fixture
    async def new_broker(self, make_broker: MakeBroker) -> AsyncIterator[NewBroker]:
        async with AsyncExitStack() as opened:

            async def new_broker(*, timeout: float = 10.0) -> Broker:
                broker = make_broker(timeout=timeout)
                opened.push_async_callback(broker.close)
                await within(broker.open())
                return broker

            yield new_broker

    @pytest.fixture
    async def broker(self, new_broker: NewBroker) -> Broker:
        return await new_broker()

    @pytest.fixture
    async def consume(self, new_broker: NewBroker) -> AsyncIterator[Consume]:  # noqa: ARG002 - closed before brokers
        async with AsyncExitStack() as made:

            def consume(
                broker: Broker,
                *queues: Queue,
                node: str | None = None,
                lease: float = LONG_LEASE,
                prefetch: int = 200,
            ) -> Consumer:
                node = node or f"{environment.new_id()}@contract"
                consumer = broker.consume(queues, ConsumerOptions(node=node, lease=lease, prefetch=prefetch))
                made.push_async_callback(consumer.close)
                return consumer

            yield consume

    @pytest.fixture
    async def queue(self, broker: Broker) -> Queue:
        """A queue that nobody else knows, declared."""
        return await declared(broker, "main")


async def declared(broker: Broker, label: str) -> Queue:
    """A fresh queue, its name ending in the label. It serves priorities where that has to be asked for."""
    queue = Queue(name=f"contract-{environment.new_id()[:8]}-{label}", arguments={"x-max-priority": 10})
    await within(broker.declare([queue]))
    return queue


def skip_without(capability: str, why: str) -> NoReturn:
    pytest.skip(f"capabilities.{capability}: {why}")


def needs_order(broker: Broker) -> None:
    if not broker.capabilities.ordered:
        skip_without("ordered", "order is best effort")


def needs_sight_of_others(broker: Broker) -> None:
    if not (broker.capabilities.leases and broker.capabilities.sees_in_flight):
        skip_without("sees_in_flight", "the broker gives back by itself what a dead connection held")


def needs_sight_of_parked(broker: Broker) -> None:
    if not broker.capabilities.sees_parked:
        skip_without("sees_parked", "what is parked can't be listed")


def in_order(broker: Broker, items: Iterable[bytes]) -> list[bytes]:
    """As they are where order is promised, else sorted: only what is there counts."""
    return list(items) if broker.capabilities.ordered else sorted(items)


# -- messages --------------------------------------------------------------------------------------------------


def publication(
    queue: Queue | str,
    body: bytes,
    *,
    priority: int | None = None,
    not_before: float | None = None,
) -> Publication:
    message = WireMessage(body=body, headers={"task": "contract.task"}, properties=Properties(priority=priority))
    name = queue if isinstance(queue, str) else queue.name
    return Publication(message=message, queue=name, not_before=not_before)


async def publish(
    broker: Broker,
    queue: Queue | str,
    *bodies: bytes,
    priority: int | None = None,
    not_before: float | None = None,
) -> None:
    batch = [publication(queue, body, priority=priority, not_before=not_before) for body in bodies]
    await within(broker.publish(batch))


def message_of(item: Delivery | Stored) -> WireMessage:
    return decode_envelope(item.content) if isinstance(item.content, bytes) else item.content


def body(item: Delivery | Stored) -> bytes:
    return message_of(item).body


def bodies(items: Iterable[Delivery | Stored]) -> list[bytes]:
    return [body(item) for item in items]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# -- consuming -------------------------------------------------------------------------------------------------


async def maintain(consumer: Consumer) -> None:
    """A worker's housekeeping, for as long as it isn't cancelled."""
    while True:
        await asyncio.sleep(await consumer.maintain())


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    """Receive exactly so many, with the housekeeping that a worker does meanwhile. Fails after a bounded wait."""
    taken: list[Delivery] = []

    async def fill() -> None:
        while len(taken) < count:
            taken.extend(await consumer.receive(count - len(taken)))

    async with running(maintain(consumer)):
        try:
            await within(fill())
        except TimeoutError:
            pytest.fail(f"{count} messages expected, {len(taken)} came: {bodies(taken)}")
    return taken


async def ack(consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
    """Acknowledge what is still ours."""
    assert await within(consumer.settle([Ack(delivery) for delivery in deliveries])) == []


async def until_ready(broker: Broker, queue: Queue, count: int) -> None:
    """See that so many stand ready. Where more is pushed than was asked for, that comes back after a while."""

    async def look() -> None:
        while (await broker.depth(queue.name)).ready != count:
            await asyncio.sleep(0.05)

    if broker.capabilities.pushes:
        await within(look())
    assert (await within(broker.depth(queue.name))).ready == count


async def nothing_else(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    """Show that the queue has nothing to hand out: a message published now is the next, and the only one."""
    await publish(broker, queue, b"marker")
    (marker,) = await take(consumer, 1)
    assert body(marker) == b"marker"
    await ack(consumer, [marker])


async def reconnected(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat an idempotent call until the connection is back, as a worker does."""

    async def attempts() -> None:
        while True:
            try:
                await call()
            except BrokerConnectionError:
                await asyncio.sleep(0.05)
            else:
                return

    await within(attempts())
