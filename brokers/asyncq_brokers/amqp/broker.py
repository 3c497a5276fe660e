"""The AMQP broker: RabbitMQ's queues, shared with Celery (`asyncq.driver.Broker`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from asyncq.driver import (
    BrokerCapabilities,
    ConsumerOptions,
    DriverConfig,
    Place,
    Publication,
    Queue,
    QueueDepth,
    Stored,
)
from asyncq.errors import EncodeError
from asyncq_brokers._clients.amqp import Link, Refused, read_broker_config

from .consumer import AmqpConsumer
from .delays import Delays
from .operating import Operator
from .publishing import MAX_MESSAGE_BYTES, Publisher
from .topology import Topology

__all__ = ["AmqpBroker"]

logger = logging.getLogger(__name__)

_CAPABILITIES = BrokerCapabilities(
    priority_order="highest-first",
    leases=False,
    shared=True,
    durable=True,
    sees_in_flight=False,
    pushes=True,
    hold_limit=1800.0,  # RabbitMQ's consumer_timeout, as it comes
    max_message_bytes=MAX_MESSAGE_BYTES,
)


class AmqpBroker:
    """Queues in one virtual host of a RabbitMQ server (3.10 or newer) or cluster."""

    def __init__(self, config: DriverConfig) -> None:
        self._endpoints = read_broker_config(config)
        self._environment = config.environment
        self._timeout = config.timeout
        self._link = self._new_link()
        self._topology = Topology(self._link)
        self._delays = Delays(self._link, config.environment.clock)
        self._publisher = Publisher(self._link, self._topology, self._delays, config.environment.clock)
        #: Made when somebody looks. A server that is full reads nothing more from those who publish.
        self._looking = self._new_link()
        self._operator = Operator(self._looking, self._publisher)
        self._consumers: list[AmqpConsumer] = []

    @property
    def capabilities(self) -> BrokerCapabilities:
        return _CAPABILITIES

    @property
    def address(self) -> str:
        return self._link.address

    async def open(self) -> None:
        await self._link.connected(self._link.deadline())

    async def close(self) -> None:
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await asyncio.gather(self._link.close(), self._looking.close())

    async def declare(self, queues: Sequence[Queue]) -> None:
        """Declare queues, and the way back into them for what is parked, so that no ETA has to wait for that."""
        await self._topology.declare(queues, self._link.deadline())
        try:
            await self._delays.make_levels()
            for queue in queues:
                await self._delays.prepare(queue, self._link.deadline())
            await self._delays.let_celerys_in(queues)
        except (EncodeError, Refused) as error:
            logger.warning("Messages with an ETA can't be parked here: %s", error)

    async def publish(self, publications: Sequence[Publication]) -> None:
        await self._publisher.publish(publications)

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> AmqpConsumer:
        for queue in queues:
            self._topology.learn(queue)
        consumer = AmqpConsumer(
            queues, options, link=self._new_link(), publisher=self._publisher, environment=self._environment
        )
        self._consumers = [*(other for other in self._consumers if not other.closed), consumer]
        return consumer

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:  # noqa: ARG002
        """Nothing to do: RabbitMQ gives back what a connection held as soon as that ends."""
        return 0

    async def depth(self, queue: str) -> QueueDepth:
        return await self._operator.depth(queue)

    async def purge(self, queue: str) -> int:
        return await self._operator.purge(queue)

    async def peek(self, queue: str, place: Place, *, limit: int = 100, offset: int = 0) -> list[Stored]:
        return await self._operator.peek(queue, place, limit, offset)

    async def move(self, queue: str, place: Place, keys: Sequence[str], *, until: float | None = None) -> int:
        return await self._operator.move(queue, place, keys, until)

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        return await self._operator.drop(queue, place, keys)

    def _new_link(self) -> Link:
        return Link(self._endpoints, clock=self._environment.clock, timeout=self._timeout)
