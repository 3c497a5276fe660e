"""The memory drivers at the end of a wire, and a history of what took effect there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from asyncq.driver import (
    CLAIM,
    CLAIM_WHILE_SENDING,
    ChordClaim,
    ChordOpening,
    ChordPart,
    ConsumerOptions,
    Dead,
    Delivery,
    DriverConfig,
    Fact,
    Park,
    Publication,
    Queue,
    Requeue,
    Settlement,
    StoredResult,
)
from asyncq.errors import BackendConnectionError, BackendFull, BrokerConnectionError, BrokerFull, PublishError
from asyncq.protocol import WireMessage, decode_envelope
from asyncq_backends._memory_chords import MemoryChords
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers._clients.memory import MemoryCoordination
from asyncq_brokers.memory import MemoryBroker
from asyncq_brokers.memory._broker import MemoryConsumer
from simulation.history import History
from simulation.network import Link, Weather


class SimBroker(MemoryBroker):
    """`who` is the process whose connection this is."""

    # Its messages outlive the processes of the simulation, so that there may be suspects.
    capabilities = msgspec.structs.replace(MemoryBroker.capabilities, shared=True)

    def __init__(self, config: DriverConfig, weather: Weather, history: History, who: str) -> None:
        super().__init__(config)
        self.link = Link(weather, BrokerConnectionError)
        self.history = history
        self.who = who

    async def open(self) -> None:
        await self.link.call(super().open)

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> SimConsumer:
        consumer = SimConsumer(self, [queue.name for queue in queues], options)
        self._consumers.add(consumer)
        return consumer

    async def publish(self, publications: Sequence[Publication]) -> None:
        fate = await self.link.request(lambda: self._publish(publications))
        if fate.fault == "full":
            raise BrokerFull("by plan")
        half = publications[: len(publications) // 2]
        await self._publish({"partial": half, "refused": publications[1:]}.get(fate.fault, publications))
        if fate.fault == "refused":
            raise PublishError({0: ValueError("by plan")})
        await self.link.reply(fate)

    def cut(self) -> None:
        """The server is away from now on: who waits for a message hears of it."""
        self.link.down = True
        for consumer in self._consumers:
            if consumer._waiter is not None:
                consumer._waiter.event.set()

    async def _publish(self, publications: Sequence[Publication]) -> None:
        await super().publish(publications)
        for publication in publications:
            message = publication.message
            headers = (message if isinstance(message, WireMessage) else decode_envelope(message)).headers
            self.history.note(self.who, "publish", str(headers["id"]), str(headers["retries"]))


class SimConsumer(MemoryConsumer):
    _broker: SimBroker

    async def receive(self, limit: int) -> list[Delivery]:
        link = self._broker.link
        fate = await link.request(lambda: self._take_for_nobody(limit))
        deliveries = await super().receive(limit)
        await link.reply(fate)
        return deliveries

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        broker = self._broker
        broker.history.ask("asked", settlements)
        fate = await broker.link.request(lambda: self._settle(settlements))
        done = settlements
        if fate.fault == "full":  # what stores nothing is settled on a full server, too
            done = [each for each in settlements if not isinstance(each, Dead | Park)]
        elif fate.fault == "partial":
            done = settlements[: len(settlements) // 2]
        lost = await self._settle(done)
        await broker.link.reply(fate)
        if fate.fault == "full":
            # Whether there was room to put something back is not told.
            broker.history.ask("answered", [each for each in done if not isinstance(each, Requeue)])
            raise BrokerFull("by plan")
        broker.history.ask("answered", done)
        return lost

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return await self._broker.link.call(super().extend, deliveries)

    async def maintain(self) -> float:
        return await self._broker.link.call(super().maintain)

    def _claim(self, limit: int) -> list[Delivery]:
        taken = super()._claim(limit)
        self._broker.history.take(self._broker.who, taken)
        return taken

    async def _take_for_nobody(self, limit: int) -> None:
        self._claim(limit)

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = await super().settle(settlements)
        for each in settlements:
            if each.delivery not in lost:
                self._broker.history.settle(self._broker.who, each)
        return lost

    async def _turn(self) -> None:
        await super()._turn()
        if self._broker.link.down:
            raise BrokerConnectionError("the server went away")


class SimBackend(MemoryBackend):
    def __init__(self, config: DriverConfig, weather: Weather, history: History, who: str) -> None:
        super().__init__(config)
        # A record that arrives after a later one of its task is beyond what a worker can fence.
        self.link = Link(weather, BackendConnectionError, in_order=True)
        self.coordination = SimCoordination(config, self._turn)
        self.coordination.link = self.link
        self.chords = SimChords(config, self._turn, self.get)
        self.chords.link = self.link
        self._history = history
        self._who = who

    async def open(self) -> None:
        await self.link.call(super().open)

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        fate = await self.link.request(lambda: self._store_and_note(results))
        if fate.fault == "full":
            raise BackendFull("by plan")
        if fate.fault == "partial":
            results = results[: len(results) // 2]
        stored = await self._store_and_note(results)
        await self.link.reply(fate)
        return stored

    async def _store_and_note(self, results: Sequence[StoredResult]) -> list[bool]:
        stored = await super().store(results)
        for result, done in zip(results, stored, strict=True):
            if done:
                self._history.note(self._who, "store", result.task_id, result.status)
        return stored


class SimChords(MemoryChords):
    link: Link

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        await self.link.call(super().open, openings)

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        await self.link.call(super().grow, group_id, by, name=name, expires=expires)

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        return await self.link.call(super().join, parts, lease=lease)

    async def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        await self.link.reply(await self.link.request(_nothing))
        async for batch in super().members(claim):
            yield batch

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        return await self.link.call(super().renew, claim, lease=lease)

    async def close(self, claim: ChordClaim) -> None:
        await self.link.call(super().close, claim)

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        return await self.link.call(super().overdue, limit, lease=lease)


async def _nothing() -> None:
    """What only reads has no effect when it comes late."""


class SimCoordination(MemoryCoordination):
    link: Link

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        return await self.link.call(super().put, facts, if_absent=if_absent, if_same=if_same)

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self.link.call(super().get, keys)

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        return await self.link.call(super().delete, keys, if_value=if_value)

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        return await self.link.call(super().incr, key, by=by, ttl=ttl)

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        return await self.link.call(super().take, bucket, rate=rate, capacity=capacity)

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        return await self.link.call(super().scan, prefix)


def drivers(config: DriverConfig, weather: Weather, history: History, who: str) -> dict[str, Any]:
    """A worker's drivers in this weather, as settings of `World.worker`."""
    return {
        "broker": SimBroker(config, weather, history, who),
        "backend": SimBackend(config, weather, history, who),
    }
