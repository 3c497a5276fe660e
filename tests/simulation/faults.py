"""The memory drivers with faults by plan, and a log of what took effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from asyncq.driver import (
    ConsumerOptions,
    Dead,
    Delivery,
    DriverConfig,
    Park,
    Publication,
    Queue,
    Settlement,
    StoredResult,
)
from asyncq.errors import BackendConnectionError, BackendFull, BrokerConnectionError, BrokerFull, PublishError
from asyncq.protocol import WireMessage, decode_envelope
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from asyncq_brokers.memory._broker import MemoryConsumer

#: What happens to one call: it goes well; takes a second; its request or its reply is lost; the server is full; a
#: message of a batch is refused for good.
Fault: TypeAlias = Literal["none", "slow", "request lost", "reply lost", "full", "refused"]
FAULTS: tuple[Fault, ...] = ("none", "slow", "request lost", "reply lost", "full", "refused")


class Effect(NamedTuple):
    """Something that the server has done, in the order in which it did it."""

    what: Literal["start", "store", "publish", "settle"]
    #: Of the task, or (settle) the delivery tag.
    key: str
    #: State of the record, number of the retry, kind of the settlement; of a start its delivery tag and retry.
    detail: str


class Faults:
    """The faults of the calls to come; after the last of them all goes well."""

    def __init__(self, plan: Iterable[Fault] = ()) -> None:
        self._plan = _and_then_well(plan)
        self.effects: list[Effect] = []
        #: By tag, what the worker asked for and what it got an answer to.
        self.settlements: dict[str, list[tuple[Literal["asked", "answered"], Settlement]]] = {}

    async def request(self, lost: Callable[[], Exception]) -> Fault:
        """Before a call has its effect: raises when it shall have none."""
        fault = next(self._plan)
        if fault == "request lost":
            raise lost()
        if fault == "slow":
            await asyncio.sleep(1)
        return fault

    def reply(self, fault: Fault, lost: Callable[[], Exception]) -> None:
        """After it: raises when nobody shall hear of it."""
        if fault == "reply lost":
            raise lost()

    def note(self, what: Literal["start", "store", "publish", "settle"], key: str, detail: str) -> None:
        self.effects.append(Effect(what, key, detail))


def _and_then_well(plan: Iterable[Fault]) -> Iterator[Fault]:
    yield from plan
    while True:
        yield "none"


def _broker_lost() -> Exception:
    return BrokerConnectionError("by plan")


def _backend_lost() -> Exception:
    return BackendConnectionError("by plan")


class FaultyBroker(MemoryBroker):
    def __init__(self, config: DriverConfig, faults: Faults) -> None:
        super().__init__(config)
        self._faults = faults

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> FaultyConsumer:
        consumer = FaultyConsumer(self, [queue.name for queue in queues], options)
        consumer.faults = self._faults
        self._consumers.add(consumer)
        return consumer

    async def publish(self, publications: Sequence[Publication]) -> None:
        fault = await self._faults.request(_broker_lost)
        if fault == "full":
            raise BrokerFull("by plan")
        taken = publications[1:] if fault == "refused" else publications
        await super().publish(taken)
        for publication in taken:
            message = publication.message
            headers = (message if isinstance(message, WireMessage) else decode_envelope(message)).headers
            self._faults.note("publish", str(headers["id"]), str(headers["retries"]))
        if fault == "refused":
            raise PublishError({0: ValueError("by plan")})
        self._faults.reply(fault, _broker_lost)


class FaultyConsumer(MemoryConsumer):
    faults: Faults

    async def receive(self, limit: int) -> list[Delivery]:
        fault = await self.faults.request(_broker_lost)
        deliveries = await super().receive(limit)
        self.faults.reply(fault, _broker_lost)
        return deliveries

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        self._log("asked", settlements)
        fault = await self.faults.request(_broker_lost)
        # What stores nothing is settled on a full server, too.
        done = [each for each in settlements if fault != "full" or not isinstance(each, Dead | Park)]
        lost = await super().settle(done)
        for each in done:
            if each.delivery not in lost:
                self.faults.note("settle", each.delivery.tag, type(each).__name__)
        self.faults.reply(fault, _broker_lost)
        self._log("answered", done)
        if fault == "full":
            raise BrokerFull("by plan")
        return lost

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        fault = await self.faults.request(_broker_lost)
        lost = await super().extend(deliveries)
        self.faults.reply(fault, _broker_lost)
        return lost

    async def maintain(self) -> float:
        fault = await self.faults.request(_broker_lost)
        pause = await super().maintain()
        self.faults.reply(fault, _broker_lost)
        return pause

    def _log(self, what: Literal["asked", "answered"], settlements: Sequence[Settlement]) -> None:
        for settlement in settlements:
            self.faults.settlements.setdefault(settlement.delivery.tag, []).append((what, settlement))


class FaultyBackend(MemoryBackend):
    def __init__(self, config: DriverConfig, faults: Faults) -> None:
        super().__init__(config)
        self._faults = faults

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        fault = await self._faults.request(_backend_lost)
        if fault == "full":
            raise BackendFull("by plan")
        stored = await super().store(results)
        for result, done in zip(results, stored, strict=True):
            if done:
                self._faults.note("store", result.task_id, result.status)
        self._faults.reply(fault, _backend_lost)
        return stored


def drivers(config: DriverConfig, faults: Faults) -> dict[str, Any]:
    """A worker's drivers with these faults, as settings of `World.worker`."""
    return {"broker": FaultyBroker(config, faults), "backend": FaultyBackend(config, faults)}
