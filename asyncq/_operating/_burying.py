"""What is to be done for a worker's process that has died, by somebody who knows its servers and not its code."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from asyncq._brief import Brief
from asyncq._flight import Flight, Stage
from asyncq._operating._servers import Servers
from asyncq._suspicion import Suspicion, read_files, write_suspicions
from asyncq._wills import drop_wills, read_wills
from asyncq.driver import Broker, Clock, Coordination, Publication, StoredResult, TagReleasing
from asyncq.errors import BackendError, BrokerError, DecodeError, TaskError, TimeLimitExceeded, WorkerLostError
from asyncq.protocol import READY_STATES, ResultRecord, decode_result, describe_exception, encode_result, lost_of

# `Any` below: an exception as records describe it.

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
    lost = [flight for flight in death.flights if flight.stage is Stage.ACKNOWLEDGED]
    if lost:
        await _tell_of_losses(servers, lost, death, brief, clock)


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


async def _tell_of_losses(servers: Servers, lost: Sequence[Flight], death: Death, brief: Brief, clock: Clock) -> None:
    """Store a failure for what was acknowledged before it ran: nobody will run it, and nobody shall wait for it.

    Where more follows from it than a record, the message was kept: it is sent again, for a worker to end it.
    """
    broker, backend, coordination = await servers.broker(), await servers.backend(), await servers.coordination()
    ids = [flight.task_id for flight in lost]
    nothing = [None] * len(ids)
    stored = nothing if backend is None else await backend.get(ids)
    wills = nothing if coordination is None else await read_wills(coordination, ids)
    records: list[StoredResult] = []
    messages: list[Publication] = []
    for flight, raw, will in zip(lost, stored, wills, strict=True):
        described = describe_exception(_error(flight, death))
        final = _final(raw, brief)
        if final is None and not flight.ignore_result:
            records.append(_record(flight, described, brief, clock))
        # What has succeeded needs nobody for its next steps: they were sent before that was stored.
        if will is not None and (final is None or final.status == "FAILURE"):
            failure = described if final is None else final.result
            messages.append(Publication(message=lost_of(will, failure), queue=flight.queue))
    if records and backend is not None:
        await backend.store(records)
    if messages:
        await broker.publish(messages)
    if coordination is not None:
        await drop_wills(coordination, [task_id for task_id, will in zip(ids, wills, strict=True) if will is not None])


def _error(flight: Flight, death: Death) -> TaskError:
    if flight.slot == death.culprit:
        limit = flight.deadline - flight.started_at
        return TimeLimitExceeded(round(limit, 3) if math.isfinite(limit) else "it blocked its worker's event loop")
    return WorkerLostError(f"{death.node} died while it ran, and it was acknowledged early.")


def _final(raw: bytes | None, brief: Brief) -> ResultRecord | None:
    """The record of what had come to its end, where only that could not be said in time."""
    if raw is None:
        return None
    try:
        record = decode_result(raw, accept={"json", brief.result_serializer})
    except DecodeError:
        return None
    return record if record.status in READY_STATES else None


def _record(flight: Flight, described: dict[str, Any], brief: Brief, clock: Clock) -> StoredResult:
    serializer = brief.result_serializer
    record = ResultRecord(
        task_id=flight.task_id,
        status="FAILURE",
        result=described,
        date_done=datetime.fromtimestamp(clock.wall(), brief.timezone),
    )
    expires = brief.result_expires if brief.result_failure_expires is None else brief.result_failure_expires
    raw = encode_result(record, serializer=serializer, compression=brief.result_compression)
    return StoredResult(task_id=flight.task_id, record=raw, status="FAILURE", expires=expires)
