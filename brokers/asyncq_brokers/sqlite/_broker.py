"""The broker on a SQLite file, and its consumers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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
from asyncq.errors import BrokerConnectionError, BrokerFull, PublishError
from asyncq_brokers._clients.sqlite import Bell, Connection, Failures, Session, SQLiteCoordination
from asyncq_brokers._parcels import pack, pack_letter, tag_source
from asyncq_brokers.sqlite import _rows
from asyncq_brokers.sqlite._leases import Housekeeper

T = TypeVar("T")

#: SQLite's own limit for one value is 10^9 bytes; this leaves room for a copy of it beside.
MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class SQLiteBroker:
    """Option: `synchronous`, "normal" or "full" (see `_clients.sqlite`)."""

    def __init__(self, config: DriverConfig) -> None:
        self.capabilities = BrokerCapabilities(
            priority_order="lowest-first", leases=True, shared=True, durable=True, max_message_bytes=MAX_MESSAGE_BYTES
        )
        self.connection = Connection(config, Failures(connection=BrokerConnectionError, full=BrokerFull))
        self.environment = config.environment
        self.coordination = SQLiteCoordination(self.connection, config.environment.clock)
        self.new_tag = tag_source(config.environment.new_id)
        self._consumers: set[SQLiteConsumer] = set()

    @property
    def address(self) -> str:
        return str(self.connection.path)

    async def open(self) -> None:
        await self.connection.open()

    async def close(self) -> None:
        for consumer in list(self._consumers):
            await consumer.close()
        await self.connection.close()

    async def declare(self, queues: Sequence[Queue]) -> None:
        """Nothing: a queue exists once it is named."""

    async def publish(self, publications: Sequence[Publication]) -> None:
        parcels, failures = pack(publications, self.new_tag, max_bytes=MAX_MESSAGE_BYTES)
        if parcels:
            await self.connection.run(partial(_rows.add, parcels=parcels))
        if failures:
            raise PublishError(failures)

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> SQLiteConsumer:
        consumer = SQLiteConsumer(self, [queue.name for queue in queues], options)
        self._consumers.add(consumer)
        return consumer

    def forget(self, consumer: SQLiteConsumer) -> None:
        """The consumer is closed."""
        self._consumers.discard(consumer)

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:
        return await self.connection.run(partial(_rows.release, node=node, ended=ended))

    async def depth(self, queue: str) -> QueueDepth:
        return await self.connection.run(partial(_rows.depth, queue=queue))

    async def purge(self, queue: str) -> int:
        return await self.connection.run(partial(_rows.purge, queue=queue))

    async def peek(self, queue: str, place: Place, *, limit: int = 100, offset: int = 0) -> list[Stored]:
        return await self.connection.run(partial(_rows.peek, queue=queue, place=place, limit=limit, offset=offset))

    async def move(self, queue: str, place: Place, keys: Sequence[str], *, until: float | None = None) -> int:
        return await self.connection.run(partial(_rows.move, queue=queue, place=place, keys=keys, until=until))

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        return await self.connection.run(partial(_rows.drop, queue=queue, place=place, keys=keys))


class SQLiteConsumer:
    def __init__(self, broker: SQLiteBroker, queues: Sequence[str], options: ConsumerOptions) -> None:
        self._broker = broker
        self._connection = broker.connection
        self._clock = broker.environment.clock
        #: Rotated at each claim, so that queues take turns.
        self._queues = deque(queues)
        self._options = options
        self._housekeeper = Housekeeper(self._clock, options.lease)
        self._contact = self._clock.monotonic()
        self._bell: Bell | None = None
        #: The claim under way, and how to undo it.
        self._claim: tuple[asyncio.Future[list[Delivery]], Callable[[Session], None]] | None = None
        self._closed = False

    @property
    def last_contact(self) -> float:
        return self._contact

    async def receive(self, limit: int) -> list[Delivery]:
        if self._bell is None:
            self._bell = Bell(self._connection.path, _rows.TOPIC, self._broker.environment.new_id())
        while True:
            if self._closed:
                raise _closed()
            self._bell.clear()
            if taken := await self._take(limit):
                return taken
            await self._bell.wait()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        if not settlements:
            return []
        letters = {
            settlement.delivery.tag: pack_letter(settlement.letter, settlement.delivery.queue, self._broker.new_tag)
            for settlement in settlements
            if isinstance(settlement, Dead)
        }
        try:
            return await self._run(partial(_rows.settle, settlements=settlements, letters=letters))
        except BrokerFull as error:
            # Not even the room that is kept back for it was there, and nothing was done: BrokerFull would say that acks
            # were, and those tasks would run again.
            raise BrokerConnectionError(str(error)) from error

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        if not deliveries:
            return []
        job = partial(_rows.extend, deliveries=deliveries, lease=self._options.lease, clock=self._clock)
        return await self._run(job)

    async def maintain(self) -> float:
        return await self._run(self._housekeeper.run)

    async def close(self) -> None:
        self._closed = True
        self._broker.forget(self)
        if self._claim is not None:
            answer, undo = self._claim
            self._connection.post(undo)
            if not answer.done():
                answer.set_exception(_closed())
        if self._bell is not None:
            self._bell.wake()
            self._bell.close()

    async def _take(self, limit: int) -> list[Delivery]:
        self._queues.rotate(-1)
        lease = _rows.Lease(self._broker.new_tag(), self._options.node, self._options.lease)
        job = partial(
            _rows.claim,
            queues=tuple(self._queues),
            limit=limit,
            lease=lease,
            clock=self._clock,
            asked_at=self._clock.monotonic(),
        )
        undo = partial(_rows.undo_claim, token=lease.token)
        answer = self._connection.ask(job)
        self._claim = answer, undo
        try:
            taken = await self._connection.answer(answer)
        except BaseException:
            self._connection.post(undo)  # cancelled or too late: what was taken, or still will be, reaches nobody
            raise
        finally:
            self._claim = None
        if self._closed:  # and so it was undone, though the answer was there
            raise _closed()
        self._contact = self._clock.monotonic()
        return taken

    async def _run(self, job: Callable[[Session], T]) -> T:
        answer = await self._connection.run(job)
        self._contact = self._clock.monotonic()
        return answer


def _closed() -> BrokerConnectionError:
    return BrokerConnectionError("the consumer is closed")


if TYPE_CHECKING:
    _broker: Callable[[DriverConfig], Broker] = SQLiteBroker
    _coordinating: Callable[[DriverConfig], Coordinating] = SQLiteBroker
    _consumer: Callable[[SQLiteBroker, Sequence[str], ConsumerOptions], Consumer] = SQLiteConsumer
