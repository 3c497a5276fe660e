"""Ways through a place of a queue, page by page: there may be more messages than fit into memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from asyncq._operating._entries import Entry, MessageReader, Selection
from asyncq.driver import Broker, Place, Publication, Stored
from asyncq.errors import PublishError

#: Messages that are looked at in one call.
PAGE = 200


async def first(broker: Broker, queue: str, place: Place, reader: MessageReader, *, limit: int) -> list[Entry]:
    """The first messages of a place."""
    found: list[Entry] = []
    while len(found) < limit:
        page = await broker.peek(queue, place, limit=min(PAGE, limit - len(found)), offset=len(found))
        if not page:
            break
        found += (reader.read(stored, place) for stored in page)
    return found


async def count(broker: Broker, queue: str, place: Place) -> int | None:
    """How many messages stand in a place; None where the broker can't tell."""
    depth = await broker.depth(queue)
    return {"ready": depth.ready, "parked": depth.parked, "dead": depth.dead}[place]


async def find(
    broker: Broker, queue: str, place: Place, reader: MessageReader, selection: Selection
) -> AsyncGenerator[Entry]:
    """What a selection means, in the order of the place. Nothing may be taken away meanwhile: see `sweep` for that."""
    left, offset = await _bound(broker, queue, place), 0
    while left > 0:
        page = await broker.peek(queue, place, limit=min(PAGE, left), offset=offset)
        if not page:
            return
        left -= len(page)
        offset += len(page)
        for stored in page:
            entry = reader.read(stored, place)
            if entry in selection:
                yield entry


async def sweep(broker: Broker, queue: str, place: Place, act: Callable[[Sequence[Stored]], Awaitable[int]]) -> int:
    """Go once over what stands in a place. `act` gets each page and says how many of it stand there no more.

    What comes back meanwhile, because a worker parks it again for example, isn't met over and over: no more messages
    are looked at than there were. Returns how many `act` has taken away.
    """
    left, offset, taken = await _bound(broker, queue, place), 0, 0
    while left > 0:
        page = await broker.peek(queue, place, limit=min(PAGE, left), offset=offset)
        if not page:
            break
        left -= len(page)
        gone = await act(page)
        taken += gone
        offset += len(page) - gone
    return taken


async def send_again(broker: Broker, queue: str, place: Place, batch: Sequence[tuple[Stored, Publication]]) -> int:
    """Publish messages, then drop what they are made from: a crash in between leaves one twice, and loses none.

    Returns how many were dropped. Raises PublishError when some were refused: those stay where they were.
    """
    refused: PublishError | None = None
    try:
        await broker.publish([publication for _, publication in batch])
    except PublishError as error:
        refused = error
    failures = {} if refused is None else refused.failures
    sent = [stored.key for position, (stored, _) in enumerate(batch) if position not in failures]
    dropped = await broker.drop(queue, place, sent)
    if refused is not None:
        raise refused
    return dropped


async def _bound(broker: Broker, queue: str, place: Place) -> int:
    """How many messages to look at, at most."""
    found = await count(broker, queue, place)
    return sys.maxsize if found is None else found
