"""Takes out of a queue what nobody wants to run any more."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from asyncq._operating._entries import Entry, MessageReader, Selection
from asyncq._operating._places import find
from asyncq._unique import claim_of_header
from asyncq.driver import Broker, Coordination, Place


class Withdrawal(Struct, frozen=True):
    """A message that was found and dropped."""

    task_id: str
    queue: str
    place: Place


async def withdraw(
    broker: Broker,
    queue: str,
    reader: MessageReader,
    task_ids: Collection[str],
    coordination: Coordination | None,
) -> list[Withdrawal]:
    """Drop the messages of some tasks from where they are parked or ready. What is in flight is out of reach.

    A unique task gives its claim back, as if it had ended. Raises BrokerError, BackendError.
    """
    withdrawn: list[Withdrawal] = []
    selection = Selection(names=frozenset(task_ids))
    # Parked first: what becomes due meanwhile is met among what is ready. A broker that hides what is parked shows the
    # rest by handing it out alone: the revocation is left to meet both.
    places: tuple[Place, ...] = ("parked", "ready") if broker.capabilities.sees_parked else ()
    for place in places:
        for entry in [entry async for entry in find(broker, queue, place, reader, selection)]:
            task_id = entry.task_id
            if task_id not in selection.names:
                continue  # it is meant by its key, which means nothing to a revocation
            if await broker.drop(queue, place, [entry.stored.key]):
                withdrawn.append(Withdrawal(task_id, queue, place))
                await _give_back_claim(entry, task_id, coordination)
    return withdrawn


async def _give_back_claim(entry: Entry, task_id: str, coordination: Coordination | None) -> None:
    claim = None if entry.wire is None else claim_of_header(entry.wire.headers)
    if claim is not None and coordination is not None:
        key, _ = claim
        await coordination.delete([key], if_value=task_id.encode())
