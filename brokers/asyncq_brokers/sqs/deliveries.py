"""What a consumer holds, and the calls that end or lengthen its holding, ten deliveries at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from asyncq.driver import Delivery, Environment
from asyncq.errors import BrokerError
from asyncq_brokers._clients.aws import together

from .batches import Failure, QueueMissing, call_batch, in_batches
from .encoding import Entry, decode_body, due_date, eta_of
from .options import MOST_SECONDS
from .queues import KnownQueue

__all__ = ["HIDE", "Deliveries", "Held"]

#: The longest that a message is hidden at once (seconds): SQS counts from the receive, which was a moment ago.
HIDE = MOST_SECONDS - 200

#: Seconds that are left unused of SQS's twelve hours, for the way there.
_MARGIN = 10


class Held(Struct, eq=False):
    """One delivery in hand."""

    delivery: Delivery
    #: The delivery's.
    content: bytes
    queue: KnownQueue
    #: Monotonic time before which SQS gave it out: its twelve hours began no earlier.
    taken_at: float
    #: Monotonic time until which nobody else can have it.
    ends: float
    #: UNIX time of the date that stands beside it; None where there is none.
    not_before: float | None = None
    #: In a FIFO or a fair queue.
    group: str | None = None
    #: What takes its place is sent, a dead letter or a later message: only the message itself is left to delete.
    replaced: bool = False


class Deliveries:
    """The deliveries of one consumer, by tag, which is the receipt handle.

    A standard queue lets a stale handle delete a message that somebody else has by now. So the fence is here: what was
    not extended in time is lost by our own clock, before SQS is asked.
    """

    def __init__(self, environment: Environment, lease: int) -> None:
        self._environment = environment
        self._clock = environment.clock
        self._lease = lease
        self._held: dict[str, Held] = {}

    def read(self, queue: KnownQueue, message: Entry, asked_at: float, counted: float) -> Held:
        """What a message of an answer is. It is not held yet.

        `asked_at` is the monotonic time of the question, `counted` that from which the lease is counted.
        """
        content = decode_body(message.get("Body", ""))
        attributes: Mapping[str, str] = message.get("Attributes", {})
        count = int(attributes.get("ApproximateReceiveCount", 1))
        until = due_date(message)
        first = attributes.get("ApproximateFirstReceiveTimestamp")
        if count > 1 and first is not None:
            count = _runs(count, float(first) / 1000, eta_of(content) if until is None else until)
        delivery = Delivery(
            str(message["ReceiptHandle"]),
            queue.name,
            content,
            redelivered=count > 1,
            count=count,
            asked_at=counted,
        )
        group = attributes.get("MessageGroupId")
        return Held(delivery, content, queue, asked_at, counted + self._lease, not_before=until, group=group)

    def hold(self, held: Held) -> None:
        """From now on it is the consumer's."""
        self._held[held.delivery.tag] = held

    def find(self, delivery: Delivery) -> Held | None:
        """The delivery, if it is still ours; else None, and it is forgotten."""
        held = self._held.get(delivery.tag)
        if held is not None and held.ends <= self._clock.monotonic():
            del self._held[delivery.tag]
            return None
        return held

    def forget(self, held: Held) -> None:
        """It is settled, or lost."""
        self._held.pop(held.delivery.tag, None)

    def longest(self, held: Held) -> int:
        """Seconds that SQS still lets it be hidden."""
        return math.floor(MOST_SECONDS - _MARGIN - (self._clock.monotonic() - held.taken_at))

    async def delete(self, items: Sequence[Held]) -> list[Held]:
        """Delete messages and forget them; returns those that SQS says are no longer ours."""
        return await self._change("delete_message_batch", items, [Entry()] * len(items))

    async def hide(self, items: Sequence[Held], seconds: Sequence[int]) -> list[Held]:
        """Give messages out of hand: they can be received when so many seconds have passed. Returns those lost."""
        return await self._change(_VISIBILITY, items, [{"VisibilityTimeout": number} for number in seconds])

    async def extend(self, items: Sequence[Held]) -> list[Held]:
        """Start leases anew; returns those that are lost, which is also what SQS's twelve hours have ended."""
        over = [held for held in items if self.longest(held) <= 0]
        for held in over:
            self.forget(held)
        left = [held for held in items if self.longest(held) > 0]
        asked_at = self._clock.monotonic()
        seconds = [min(self._lease, self.longest(held)) for held in left]
        lost = await self._change(_VISIBILITY, left, [{"VisibilityTimeout": n} for n in seconds], keep=True)
        gone = {held.delivery.tag for held in lost}
        for held, number in zip(left, seconds, strict=True):
            if held.delivery.tag not in gone:
                held.ends = asked_at + number
        return over + lost

    async def _change(
        self, method: str, items: Sequence[Held], extra: Sequence[Entry], *, keep: bool = False
    ) -> list[Held]:
        by_queue: dict[str, list[int]] = {}
        for position, held in enumerate(items):
            by_queue.setdefault(held.queue.url, []).append(position)
        batches = [batch for positions in by_queue.values() for batch in in_batches(positions)]
        answers = await together(self._change_batch(method, items, extra, batch, keep=keep) for batch in batches)
        return [held for answer in answers for held in answer]

    async def _change_batch(
        self, method: str, items: Sequence[Held], extra: Sequence[Entry], batch: Sequence[int], *, keep: bool
    ) -> list[Held]:
        queue = items[batch[0]].queue
        entries = [{"ReceiptHandle": items[position].delivery.tag, **extra[position]} for position in batch]
        try:
            refused = await call_batch(queue.link, self._environment, method, queue.url, entries, harmless=True)
        except QueueMissing:  # and all its messages with it
            refused = dict.fromkeys(range(len(batch)), _GONE)
        lost: list[Held] = []
        for number, position in enumerate(batch):
            held, failure = items[position], refused.get(number)
            if failure is not None and failure.code not in _LOST:
                raise BrokerError(f"{queue.url} refuses {method}: {failure}")
            # What was settled while it was being extended is neither lost nor ours any more.
            if failure is not None and held.delivery.tag in self._held:
                lost.append(held)
            if failure is not None or not keep:
                self.forget(held)
        return lost


_VISIBILITY = "change_message_visibility_batch"

_GONE = Failure("ReceiptHandleIsInvalid", "the queue was deleted")

#: SQS's words for a receipt handle that holds nothing (any more).
_LOST = frozenset({"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidReceiptHandle"})


def _runs(count: int, first: float, due: float | None) -> int:
    """How many of the receives may have begun the task: those before its date hid it again, and began nothing.

    `first` and `due` are UNIX seconds. Each hiding lasts until the date, or as long as SQS allows.
    """
    if due is None or due <= first:
        return count
    return max(1, count - math.ceil((due - first) / HIDE))
