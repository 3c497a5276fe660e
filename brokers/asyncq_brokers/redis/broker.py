"""The Redis broker: kombu's queues, shared with Celery (`asyncq.driver.Broker`)."""

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
from asyncq_brokers._clients.redis import (
    BROKER_ERRORS,
    Link,
    RedisCoordination,
    check_server,
    read_broker_config,
)

from .consumer import RedisConsumer
from .keys import Keys
from .operating import Operator
from .publishing import MAX_MESSAGE_BYTES, Publisher
from .routing import binding_member, x_expires
from .scripts import script
from .waiter import make_waiter

__all__ = ["RedisBroker"]

logger = logging.getLogger(__name__)

_CAPABILITIES = BrokerCapabilities(
    priority_order="lowest-first",
    leases=True,
    shared=True,
    durable=True,
    max_message_bytes=MAX_MESSAGE_BYTES,
)

#: kombu keeps the bindings of an expiring queue for twice its time, and for an hour at least (milliseconds).
_BINDING_FACTOR, _BINDING_LEAST = 2, 3_600_000


class RedisBroker:
    """Queues on one database of a Redis server (6.2 or newer)."""

    def __init__(self, config: DriverConfig) -> None:
        self._endpoint, self._options = read_broker_config(config)
        self._environment = config.environment
        self._timeout = config.timeout
        self._keys = Keys(self._options)
        self._link = self._new_link()
        self.coordination = RedisCoordination(self._link, self._keys.prefix)
        self._operator = Operator(self._link, self._keys, self._environment)
        #: Queue -> milliseconds, of declared queues that expire.
        self._expiring: dict[str, int] = {}
        self._publisher = Publisher(self._link, self._keys, self._expiring, self._environment)
        self._consumers: list[RedisConsumer] = []

    @property
    def capabilities(self) -> BrokerCapabilities:
        return _CAPABILITIES

    @property
    def address(self) -> str:
        return self._endpoint.address

    async def open(self) -> None:
        server = await check_server(self._link)
        if server.append_only is False:
            logger.info(
                "Redis at %s has no append-only file: when it dies, the messages since its last snapshot are gone "
                "(appendonly yes keeps them)",
                self.address,
            )

    async def close(self) -> None:
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await self._link.close()

    async def declare(self, queues: Sequence[Queue]) -> None:
        keys = self._keys
        for queue in queues:
            keys.check(queue.name)
            expires = x_expires(queue)
            if expires is None:
                self._expiring.pop(queue.name, None)
            else:
                self._expiring[queue.name] = expires
            exchange, member = binding_member(keys, queue)
            if exchange:
                names = [keys.none, keys.binding(exchange), keys.binding_permanent(exchange), keys.binding_deadlines]
                kept = "" if expires is None else max(_BINDING_FACTOR * expires, _BINDING_LEAST)
                await self._link.run(script("bind"), names, [member, exchange, kept])

    async def publish(self, publications: Sequence[Publication]) -> None:
        await self._publisher.publish(publications)

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> RedisConsumer:
        names = [queue.name for queue in queues]
        self._keys.check_all(names)
        lists = [name for queue in names for name in self._keys.lists(queue)]
        consumer = RedisConsumer(
            names,
            options,
            link=self._new_link(),
            waiter=make_waiter(self._endpoint, lists, self._environment, self._timeout),
            keys=self._keys,
            transport=self._options,
            environment=self._environment,
        )
        self._consumers = [*(other for other in self._consumers if not other.closed), consumer]
        return consumer

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:
        return await self._operator.release(node, ended)

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
        return Link(self._endpoint, errors=BROKER_ERRORS, clock=self._environment.clock, timeout=self._timeout)
