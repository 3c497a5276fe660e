"""What waits for its time: why it waits, and how it is put back or put off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from asyncq._operating._entries import Entry, MessageReader
from asyncq._operating._places import PAGE, send_again, sweep
from asyncq.driver import Broker, Publication, Stored
from asyncq.protocol import UNKNOWN_HEADER, rescheduled

#: Seconds by which a message's own ETA and the time until which it is parked may differ, though they are one.
_ROUNDING = 0.01


class Reason(StrEnum):
    """Why a message is parked, as far as it tells by itself."""

    #: Its sender has asked for it.
    ETA = "eta"
    #: It comes back for another attempt.
    RETRY = "retry"
    #: No worker has known its task so far.
    UNKNOWN = "unknown"
    #: A worker has put it aside: a rate limit, a full task, a snooze.
    HELD = "held"


def reason_of(entry: Entry) -> Reason:
    """Why an entry is parked."""
    wire, call = entry.wire, entry.call
    if wire is not None and UNKNOWN_HEADER in wire.headers:
        return Reason.UNKNOWN
    until = entry.stored.until
    if call is None or call.eta is None or until is None or until > call.eta.timestamp() + _ROUNDING:
        return Reason.HELD
    return Reason.RETRY if call.retries else Reason.ETA


async def release(broker: Broker, queue: str) -> int:
    """Put everything that is parked back on its queue, as it stands; return how many that were.

    An asyncq worker parks again what is not due yet; Celery's workers keep it in memory.
    """

    async def put_back(page: Sequence[Stored]) -> int:
        return await broker.move(queue, "parked", [stored.key for stored in page])

    return await sweep(broker, queue, "parked", put_back)


async def reschedule(
    broker: Broker, reader: MessageReader, entries: Sequence[Entry], *, until: float, now: float
) -> int:
    """Let parked messages be due at another time (UNIX seconds); return how many were still there.

    Each is written anew with its new ETA: a worker would put one aside again that says another. A crash in the middle
    leaves a message twice at most. What can't be read goes as it stands. Raises BrokerError, EncodeError.
    """
    eta = datetime.fromtimestamp(until, UTC)
    not_before = until if until > now else None
    moved = 0
    for start in range(0, len(entries), PAGE):
        by_queue: dict[str, list[tuple[Stored, Publication]]] = {}
        for entry in entries[start : start + PAGE]:
            stored, queue = entry.stored, entry.stored.queue
            if entry.call is None:
                moved += await broker.move(queue, "parked", [stored.key], until=not_before)
                continue
            message = rescheduled(stored.content, entry.call, eta=eta, limits=reader.limits)
            publication = Publication(message=message, queue=queue, not_before=not_before)
            by_queue.setdefault(queue, []).append((stored, publication))
        for queue, batch in by_queue.items():
            moved += await send_again(broker, queue, "parked", batch)
    return moved
