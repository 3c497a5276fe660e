"""The SQS broker: kombu's messages on Amazon SQS, shared with Celery (`asyncq.driver.Broker`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from asyncq.driver import (
    BrokerCapabilities,
    ConsumerOptions,
    DriverConfig,
    Place,
    PolicyStatement,
    Publication,
    Queue,
    QueueDepth,
    Role,
    Stored,
)
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import BROKER_ERRORS, Account, AwsLink, Finisher, allow, borrow
from asyncq_brokers._parcels import dead_queue

from .consumer import SqsConsumer
from .encoding import MAX_BYTES
from .operating import Operator
from .options import read_config
from .publishing import Publisher
from .queues import Queues

__all__ = ["SqsBroker"]

logger = logging.getLogger(__name__)


class SqsBroker:
    """Queues of one account in one region."""

    def __init__(self, config: DriverConfig) -> None:
        self._account, self._options = read_config(config)
        self._environment = config.environment
        self._timeout = config.timeout
        self._queues = Queues(self._account, self._options, self._new_link)
        self._publisher = Publisher(self._queues, self._environment, base64=self._options.base64)
        self._operator = Operator(
            self._queues, self._publisher, self._environment, wait=self._options.wait_time_seconds
        )
        self._finisher = Finisher(BROKER_ERRORS)
        self._consumers: list[SqsConsumer] = []

    @property
    def capabilities(self) -> BrokerCapabilities:
        return BrokerCapabilities(
            priority_order="none",
            leases=True,
            shared=True,
            durable=True,
            sees_in_flight=False,
            sees_parked=False,
            ordered=False,
            fanout=False,
            # Base64 makes four bytes of three, and an attribute may stand beside it.
            max_message_bytes=(MAX_BYTES - 256) // 4 * 3 if self._options.base64 else MAX_BYTES - 256,
        )

    @property
    def address(self) -> str:
        return self._account.address

    @property
    def requests(self) -> int:
        """How many requests went out so far: what AWS counts."""
        return sum(link.requests for link in self._queues.links)

    async def open(self) -> None:
        await self._queues.link.open()

    async def close(self) -> None:
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await self._finisher.close(0.2)
        await self._operator.close()
        await asyncio.gather(*(link.close() for link in self._queues.links))

    async def declare(self, queues: Sequence[Queue]) -> None:
        for queue in queues:
            await self._queues.get(queue.name)
        for queue in queues:
            await self._declare_dead(queue.name)

    async def publish(self, publications: Sequence[Publication]) -> None:
        if publications:
            await self._finisher.run(self._publisher.publish(publications))

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> SqsConsumer:
        consumer = SqsConsumer(
            [queue.name for queue in queues],
            options,
            queues=self._queues,
            publisher=self._publisher,
            transport=self._options,
            environment=self._environment,
        )
        self._consumers = [*(other for other in self._consumers if not other.closed), consumer]
        return consumer

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:  # noqa: ARG002 - SQS knows no nodes
        return 0

    async def release_tags(self, held: Mapping[str, str], *, ended: Collection[str] = ()) -> int:
        return await self._operator.release(held, ended)

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

    def policy(self, role: Role, queues: Sequence[str]) -> list[PolicyStatement]:
        actions = {"SendMessage"}
        if not self._options.predefined_queues:
            actions |= {"CreateQueue", "GetQueueUrl"} | ({"TagQueue"} if self._options.queue_tags else set())
        names = [*queues]
        if role == "worker":
            actions |= {"ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage"}
            names += [dead for name in queues if self._queues.is_defined(dead := dead_queue(name))]
        resources = [self._queues.arn(name) for name in names]
        return [allow(self._account, actions, resources), *borrow(self._account)]

    async def _declare_dead(self, name: str) -> None:
        """The place of dead letters: that it may not be made is to be known when a worker starts, not months later."""
        dead = dead_queue(name)
        try:
            if self._queues.is_defined(dead):
                await self._queues.get(dead)
        except ConfigurationError as error:
            logger.warning("Dead letters of %s have no place, and will come back again and again: %s", name, error)

    def _new_link(self, account: Account) -> AwsLink:
        return AwsLink(
            account,
            errors=BROKER_ERRORS,
            environment=self._environment,
            timeout=self._timeout,
            config=self._options.client_config,
        )
