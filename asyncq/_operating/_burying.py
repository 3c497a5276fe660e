"""What is to be done for a worker's process that has died, by somebody who knows its servers and not its code."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from asyncq._brief import Brief
from asyncq._flight import Flight, Stage
from asyncq._operating._servers import Servers
from asyncq._suspicion import Suspicion, read_files, write_suspicions
from asyncq.driver import Broker, Clock, Coordination, ResultBackend, StoredResult, TagReleasing
from asyncq.errors import BackendError, BrokerError, DecodeError, TaskError, TimeLimitExceeded, WorkerLostError
from asyncq.protocol import READY_STATES, ResultRecord, decode_result, describe_exception, encode_result

#: Seconds for what may be left undone.
_IMPATIENCE = 3.0


class Death(Struct, frozen=True, kw_only=True):
    """A worker's process that is no more, and what it had under way."""

    #: `<name>@<host>`.
    node: str
    flights: Sequence[Flight]
    #: Nobody knows why: whatever it ran may have killed it.
    suspect: bool
    #: Slot of the task that it was killed for; 0 for none.
    culprit: int


async def bury(death: Death, brief: Brief, servers: Servers, *, clock: Clock, patient: bool = True) -> None:
    """Put right what speaks against its tasks, then give them back, then tell of those that nobody will run again.

    In this order, so that whoever receives one finds it put right. Where that can't be done, nothing is given back
    unless one is not `patient` any more. Any of it may be done twice. Raises BrokerError, BackendError.
    """
    if any(flight.stage is Stage.RUNNING for flight in death.flights):
        await _put_right_if_possible(servers, death, patient=patient)
    await _give_back(await servers.broker(), death)
    lost = [flight for flight in death.flights if flight.stage is Stage.ACKNOWLEDGED and not flight.ignore_result]
    if lost and (backend := await servers.backend()) is not None:
        await _tell_of_losses(backend, lost, death, brief, clock)


async def _put_right_if_possible(servers: Servers, death: Death, *, patient: bool) -> None:
    try:
        async with asyncio.timeout(None if patient else _IMPATIENCE):
            coordination = await servers.coordination()
            if coordination is not None:
                await _put_right(coordination, death)
    except (BackendError, BrokerError, TimeoutError):
        if patient:
            raise


async def _give_back(broker: Broker, death: Death) -> None:
    ended = {flight.tag for flight in death.flights if flight.stage is Stage.CONCLUDED and flight.tag}
    await broker.release(death.node, ended=ended)
    if isinstance(broker, TagReleasing):
        held = {f.tag: f.queue for f in death.flights if f.tag and f.stage in {Stage.RUNNING, Stage.CONCLUDED}}
        await broker.release_tags(held, ended=ended)


async def _put_right(coordination: Coordination, death: Death) -> None:
    """Make suspects of those that ran, where one of them may have done it, and no more of those in quarantine."""
    seen = f"{death.node} died while it ran"
    running = [flight.task_id for flight in death.flights if flight.stage is Stage.RUNNING]
    if not running:
        return
    changed: list[tuple[str, Suspicion]] = []
    for task_id, (_, known) in zip(running, await read_files(coordination, running), strict=True):
        if known is None:
            if death.suspect:
                changed.append((task_id, Suspicion(deaths=[seen])))
        elif known.node == death.node:  # else it is put right already
            if death.suspect and not known.isolated:
                known.deaths.append(seen)
            changed.append((task_id, known.at_rest()))
    await write_suspicions(coordination, changed)


async def _tell_of_losses(
    backend: ResultBackend, lost: Sequence[Flight], death: Death, brief: Brief, clock: Clock
) -> None:
    """Store a failure for what was acknowledged before it ran: nobody will run it, and nobody shall wait for it."""
    stored = await backend.get([flight.task_id for flight in lost])
    records = [
        _record(flight, _error(flight, death), brief, clock)
        for flight, raw in zip(lost, stored, strict=True)
        if not _is_final(raw, brief)
    ]
    if records:
        await backend.store(records)


def _error(flight: Flight, death: Death) -> TaskError:
    if flight.slot == death.culprit:
        limit = flight.deadline - flight.started_at
        return TimeLimitExceeded(round(limit, 3) if math.isfinite(limit) else "it blocked its worker's event loop")
    return WorkerLostError(f"{death.node} died while it ran, and it was acknowledged early.")


def _is_final(raw: bytes | None, brief: Brief) -> bool:
    """Whether it had come to its end, and only that could not be said in time."""
    if raw is None:
        return False
    try:
        return decode_result(raw, accept={"json", brief.result_serializer}).status in READY_STATES
    except DecodeError:
        return False


def _record(flight: Flight, error: TaskError, brief: Brief, clock: Clock) -> StoredResult:
    serializer = brief.result_serializer
    record = ResultRecord(
        task_id=flight.task_id,
        status="FAILURE",
        result=describe_exception(error, serializer=serializer),
        date_done=datetime.fromtimestamp(clock.wall(), brief.timezone),
    )
    expires = brief.result_expires if brief.result_failure_expires is None else brief.result_failure_expires
    raw = encode_result(record, serializer=serializer, compression=brief.result_compression)
    return StoredResult(task_id=flight.task_id, record=raw, status="FAILURE", expires=expires)
