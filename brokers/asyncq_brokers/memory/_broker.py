"""The broker on queues in memory, and its consumers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, cast

from asyncq.driver import (
    Broker,
    BrokerCapabilities,
    Consumer,
    ConsumerOptions,
    Coordinating,
    Dead,
    Delivery,
    DriverConfig,
    Place,
    Publication,
    Queue,
    QueueDepth,
    Settlement,
    Stored,
)
from asyncq.errors import BrokerConnectionError, ConfigurationError, PublishError
from asyncq_brokers._clients.memory import MemoryCoordination
from asyncq_brokers._parcels import pack, pack_letter, tag_source
from asyncq_brokers.memory._store import Store, Waiter


class MemoryBroker:
    """It has no options."""

    capabilities = BrokerCapabilities(priority_order="lowest-first", leases=True, shared=False, durable=False)
    address = "memory://"

    def __init__(self, config: DriverConfig) -> None:
        if config.options:
            raise ConfigurationError(f"memory:// has no options; found {', '.join(sorted(config.options))}")
        self.store = cast("Store", config.shared.setdefault(f"asyncq_brokers.memory {config.url}", Store()))
        self.clock = config.environment.clock
        self.new_tag = tag_source(config.environment.new_id)
        self.coordination = MemoryCoordination(config, self.turn)
        self._consumers: set[MemoryConsumer] = set()
        self._closed = False

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for consumer in list(self._consumers):
            await consumer.close()

    async def declare(self, queues: Sequence[Queue]) -> None:  # noqa: ARG002 - a queue exists once it is named
        await self.turn()

    async def publish(self, publications: Sequence[Publication]) -> None:
        await self.turn()
        parcels, failures = pack(publications, self.new_tag)
        self.store.add(parcels)
        if failures:
            raise PublishError(failures)

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> MemoryConsumer:
        consumer = MemoryConsumer(self, [queue.name for queue in queues], options)
        self._consumers.add(consumer)
        return consumer

    def forget(self, consumer: MemoryConsumer) -> None:
        """The consumer is closed."""
        self._consumers.discard(consumer)

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:
        await self.turn()
        return self.store.release(node, ended)

    async def depth(self, queue: str) -> QueueDepth:
        await self.turn()
        return self.store.depth(queue)

    async def purge(self, queue: str) -> int:
        await self.turn()
        return self.store.drop(queue, "ready", None)

    async def peek(self, queue: str, place: Place, *, limit: int = 100, offset: int = 0) -> list[Stored]:
        await self.turn()
        return self.store.peek(queue, place, limit, offset)

    async def move(self, queue: str, place: Place, keys: Sequence[str], *, until: float | None = None) -> int:
        await self.turn()
        return self.store.move(queue, place, set(keys), until)

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        await self.turn()
        return self.store.drop(queue, place, set(keys))

    async def turn(self) -> None:
        """Let others run, as every call of a broker does, so that no loop over calls can starve them."""
        await asyncio.sleep(0)
        if self._closed:
            raise BrokerConnectionError("the memory broker is closed")


class MemoryConsumer:
    def __init__(self, broker: MemoryBroker, queues: Sequence[str], options: ConsumerOptions) -> None:
        self._broker = broker
        self._store = broker.store
        self._clock = broker.clock
        #: Rotated at each claim, so that queues take turns.
        self._queues = deque(queues)
        self._options = options
        self._contact = self._clock.monotonic()
        self._waiter: Waiter | None = None
        self._closed = False

    @property
    def last_contact(self) -> float:
        return self._contact

    async def receive(self, limit: int) -> list[Delivery]:
        with self._store.waiter(self._queues) as waiter:
            self._waiter = waiter
            while True:
                await self._turn()
                waiter.event.clear()
                if taken := self._claim(limit):
                    return taken
                await waiter.event.wait()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        await self._broker.turn()
        self._contact = self._clock.monotonic()
        letters = {
            settlement.delivery.tag: pack_letter(settlement.letter, settlement.delivery.queue, self._broker.new_tag)
            for settlement in settlements
            if isinstance(settlement, Dead)
        }
        return self._store.settle(settlements, letters)

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        await self._broker.turn()
        self._contact = now = self._clock.monotonic()
        return self._store.extend(deliveries, now + self._options.lease)

    async def maintain(self) -> float:
        await self._broker.turn()
        self._contact = now = self._clock.monotonic()
        return self._store.housekeep(monotonic=now, wall=self._clock.wall())

    async def close(self) -> None:
        self._closed = True
        if self._waiter is not None:
            self._waiter.event.set()
        self._broker.forget(self)

    def _claim(self, limit: int) -> list[Delivery]:
        self._contact = now = self._clock.monotonic()
        self._queues.rotate(-1)
        node, lease = self._options.node, self._options.lease
        return self._store.claim(self._queues, limit, node=node, now=now, lease=lease, new_tag=self._broker.new_tag)

    async def _turn(self) -> None:
        await self._broker.turn()
        if self._closed:
            raise BrokerConnectionError("the consumer is closed")


if TYPE_CHECKING:
    _broker: Callable[[DriverConfig], Broker] = MemoryBroker
    _coordinating: Callable[[DriverConfig], Coordinating] = MemoryBroker
    _consumer: Callable[[MemoryBroker, Sequence[str], ConsumerOptions], Consumer] = MemoryConsumer
