"""The verbs that the tests of operating are written in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from asyncq._operating import Entry, MessageReader, Selection, find
from asyncq.driver import Broker, ConsumerOptions, Dead, Place, Publication, Queue, Stored
from asyncq.protocol import Limits, Properties, TaskMessage, WireMessage, dead_letter, decode_envelope, encode_task

QUEUE = "celery"

#: A day in 2033, far from any test.
LATER = 2_000_000_000.0

_READER = MessageReader(Limits(), ("json",))


def call(
    task_id: str,
    *args: object,
    task: str = "shop.add",
    eta: float | None = None,
    retries: int = 0,
    priority: int = 0,
    headers: dict[str, Any] | None = None,
) -> WireMessage:
    message = TaskMessage(
        task=task,
        id=task_id,
        args=list(args),
        eta=None if eta is None else datetime.fromtimestamp(eta, UTC),
        retries=retries,
        properties=Properties(priority=priority),
    )
    return encode_task(message, headers=headers)


async def publish(broker: Broker, *messages: WireMessage | bytes, until: float | None = None) -> None:
    batch = [Publication(message=message, queue=QUEUE, not_before=until) for message in messages]
    await broker.publish(batch)


async def park(broker: Broker, *task_ids: str, until: float = LATER) -> None:
    """Park tasks until their ETA."""
    await publish(broker, *(call(task_id, eta=until) for task_id in task_ids), until=until)


async def bury(broker: Broker, *messages: WireMessage | bytes, reason: str = "rejected") -> None:
    """Put messages among the dead letters, as a worker does."""
    for message in messages:
        await publish(broker, message)
        await bury_next(broker, reason=reason)


async def bury_next(broker: Broker, *, reason: str = "rejected") -> None:
    """Take the next message, and give it up."""
    consumer = broker.consume([Queue(name=QUEUE)], ConsumerOptions(node="undertaker@host"))
    try:
        async with asyncio.timeout(10):
            (taken,) = await consumer.receive(1)
        letter = dead_letter(taken.content, queue=QUEUE, reason=reason, at=1_700_000_000.0, attempts=1)
        assert await consumer.settle([Dead(taken, letter)]) == []
    finally:
        await consumer.close()


async def entries(broker: Broker, place: Place, *names: str, task: str | None = None) -> list[Entry]:
    selection = Selection(frozenset(names), task)
    return [entry async for entry in find(broker, QUEUE, place, _READER, selection)]


async def ids(broker: Broker, place: Place) -> list[str | None]:
    return [entry.task_id for entry in await entries(broker, place)]


def keys(found: Sequence[Entry]) -> list[str]:
    return [entry.stored.key for entry in found]


async def stored(broker: Broker, place: Place) -> list[Stored]:
    return await broker.peek(QUEUE, place)


async def wires(broker: Broker, place: Place) -> list[WireMessage]:
    return [
        each.content if isinstance(each.content, WireMessage) else decode_envelope(each.content)
        for each in await stored(broker, place)
    ]
