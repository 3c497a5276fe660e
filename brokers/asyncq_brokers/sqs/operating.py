"""What an operator sees and does: depth, purge, peek, move, drop, release.

SQS shows messages by handing them out alone. So whoever looks takes them for a moment, and lets go of them again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence

from asyncq.driver import Environment, Place, QueueDepth, Stored
from asyncq.errors import BrokerError
from asyncq_brokers._clients.aws import BROKER_ERRORS, Finisher
from asyncq_brokers._parcels import dead_queue

from .batches import BATCH, call_batch, in_batches
from .encoding import Entry, decode_body
from .publishing import Publisher
from .queues import KnownQueue, Queues

__all__ = ["Operator"]

logger = logging.getLogger(__name__)

#: Seconds that a message is out of others' sight while somebody looks at the queue, at most.
_LOOK = 60

#: Messages that are looked at in one go, at most: a FIFO queue and a machine have their bounds.
_MOST = 10_000

#: A poll that doesn't wait asks some of SQS's machines alone: so many empty answers make an empty queue.
_EMPTY = 3

_READY, _HIDDEN = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
_REDRIVE = "RedrivePolicy"

#: Receives that are enough for three days of an ETA, and for `max_deliveries` deaths after that.
_SAFE_RECEIVES = 12


class Operator:
    """Looks at queues and changes them without consuming."""

    def __init__(self, queues: Queues, publisher: Publisher, environment: Environment, *, wait: int) -> None:
        self._queues = queues
        self._publisher = publisher
        self._environment = environment
        #: Seconds of a long poll, and how many that bring nothing new are the end of a queue.
        self._wait = min(wait, 1)
        self._idle = 1 if wait else _EMPTY
        #: Queues whose redrive policy was told of.
        self._told: set[str] = set()
        self._finisher = Finisher(BROKER_ERRORS)

    async def close(self) -> None:
        """Let what was begun come to its end, shortly."""
        await self._finisher.close(0.5)

    async def depth(self, name: str) -> QueueDepth:
        """Approximate, as SQS's own numbers are. What is parked is hidden like what is in flight."""
        return await self._finisher.run(self._depth(name))

    async def purge(self, name: str) -> int:
        """Take and delete until nothing comes: SQS's own PurgeQueue deletes what runs and what is parked as well."""
        queue = await self._queues.find(name)
        return 0 if queue is None else await self._finisher.run(self._purge(queue))

    async def peek(self, name: str, place: Place, limit: int, offset: int) -> list[Stored]:
        queue = await self._place(name, place)
        if queue is None or limit <= 0:
            return []
        found = await self._finisher.run(self._look(queue, offset + limit))
        return [
            Stored(key=str(message["MessageId"]), queue=name, content=decode_body(message["Body"]))
            for message in found[offset : offset + limit]
        ]

    async def move(self, name: str, place: Place, keys: Sequence[str], until: float | None) -> int:
        source = await self._place(name, place)
        if source is None or not keys:
            return 0
        target = await self._queues.get(name)
        return await self._finisher.run(self._move(source, target, set(keys), until))

    async def drop(self, name: str, place: Place, keys: Sequence[str]) -> int:
        queue = await self._place(name, place)
        if queue is None or not keys:
            return 0
        return await self._finisher.run(self._drop(queue, set(keys)))

    async def release(self, held: Mapping[str, str], ended: Collection[str]) -> int:
        """Let go of what a dead consumer held, by receipt handle and queue; delete what it had ended."""
        return await self._finisher.run(self._release(held, ended))

    async def _release(self, held: Mapping[str, str], ended: Collection[str]) -> int:
        by_queue: dict[str, list[Entry]] = {}
        for handle, name in held.items():
            by_queue.setdefault(name, []).append({"ReceiptHandle": handle})
        released = 0
        for name, messages in by_queue.items():
            queue = await self._queues.find(name)
            if queue is not None:
                others = [message for message in messages if message["ReceiptHandle"] not in ended]
                await self._delete(queue, [message for message in messages if message["ReceiptHandle"] in ended])
                released += await self._let_go(queue, others)
        return released

    async def _place(self, name: str, place: Place) -> KnownQueue | None:
        if place == "parked":
            raise BrokerError("SQS hides what is parked from everybody: it can be neither listed, moved nor dropped")
        if place == "ready":
            return await self._queues.find(name)
        dead = dead_queue(name)
        return await self._queues.find(dead) if self._queues.is_defined(dead) else None

    async def _depth(self, name: str) -> QueueDepth:
        ready, hidden = await self._count(name)
        dead = 0
        if self._queues.is_defined(dead_queue(name)):
            dead, _ = await self._count(dead_queue(name))
        return QueueDepth(ready=ready, in_flight=hidden, parked=None, dead=dead)

    async def _count(self, name: str) -> tuple[int, int]:
        queue = await self._queues.find(name)
        if queue is None:
            return 0, 0
        answer = await queue.link.ask(
            "get_queue_attributes", harmless=True, QueueUrl=queue.url, AttributeNames=[_READY, _HIDDEN, _REDRIVE]
        )
        attributes = answer.get("Attributes", {})
        self._look_at_redrive(name, attributes.get(_REDRIVE))
        return int(attributes.get(_READY, 0)), int(attributes.get(_HIDDEN, 0))

    def _look_at_redrive(self, name: str, policy: str | None) -> None:
        """Tell once of a policy that takes messages away which have only waited for their date."""
        try:
            most = int(json.loads(policy)["maxReceiveCount"]) if policy else _SAFE_RECEIVES
        except (ValueError, TypeError, KeyError):  # a server of one's own, with other ideas
            return
        if most < _SAFE_RECEIVES and name not in self._told:
            self._told.add(name)
            logger.warning(
                "the redrive policy of %s takes a message away after %d receives: each 12 hours of an ETA are one, "
                "and so is each worker that dies; maxReceiveCount should be %d or more",
                name,
                most,
                _SAFE_RECEIVES,
            )

    async def _look(self, queue: KnownQueue, most: int) -> list[Entry]:
        """The next messages of a queue, which stand there again afterwards."""
        found = list((await self._take(queue, min(most, _MOST))).values())
        await self._let_go(queue, found)
        return found

    async def _move(self, source: KnownQueue, target: KnownQueue, keys: Collection[str], until: float | None) -> int:
        found, others = await self._find(source, keys)
        try:
            parcels = [
                self._publisher.parcel(target, decode_body(message["Body"]), position, until=until)
                for position, message in enumerate(found)
            ]
            refused = await self._publisher.send(target, parcels)
            sent = [message for position, message in enumerate(found) if position not in refused]
            others += [message for position, message in enumerate(found) if position in refused]
            await self._delete(source, sent)
        finally:
            await self._let_go(source, others)
        return len(sent)

    async def _drop(self, queue: KnownQueue, keys: Collection[str]) -> int:
        found, others = await self._find(queue, keys)
        await self._delete(queue, found)
        await self._let_go(queue, others)
        return len(found)

    async def _purge(self, queue: KnownQueue) -> int:
        purged = empty = 0
        while empty < _EMPTY:
            messages = await self._receive(queue, BATCH, wait=0)  # to wait would be to purge what comes meanwhile
            empty = 0 if messages else empty + 1
            await self._delete(queue, messages)
            purged += len(messages)
        return purged

    async def _find(self, queue: KnownQueue, keys: Collection[str]) -> tuple[list[Entry], list[Entry]]:
        """The messages of these keys, and those that came along, all of them taken."""
        taken = await self._take(queue, _MOST + len(keys), wanted=keys)
        found = [message for key, message in taken.items() if key in keys]
        return found, [message for key, message in taken.items() if key not in keys]

    async def _take(self, queue: KnownQueue, most: int, *, wanted: Collection[str] = ()) -> dict[str, Entry]:
        """Messages by their ids, each with its newest handle, until all `wanted` are there, or all there are.

        Who looks for longer than a message stays out of sight meets those again that he took first.
        """
        taken: dict[str, Entry] = {}
        idle, missing = 0, set(wanted)
        while idle < self._idle and len(taken) < most and (missing or not wanted):
            messages = await self._receive(queue, min(BATCH, most - len(taken)), wait=self._wait)
            before = len(taken)
            taken |= {str(message["MessageId"]): message for message in messages}
            missing -= taken.keys()
            idle = 0 if len(taken) > before else idle + 1
        return taken

    async def _receive(self, queue: KnownQueue, most: int, *, wait: int) -> list[Entry]:
        answer = await queue.link.ask(
            "receive_message",
            wait=wait,
            QueueUrl=queue.url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=_LOOK,
        )
        return answer.get("Messages", [])

    async def _let_go(self, queue: KnownQueue, messages: Sequence[Entry]) -> int:
        return await self._change(queue, messages, "change_message_visibility_batch", {"VisibilityTimeout": 0})

    async def _delete(self, queue: KnownQueue, messages: Sequence[Entry]) -> None:
        await self._change(queue, messages, "delete_message_batch", {})

    async def _change(self, queue: KnownQueue, messages: Sequence[Entry], method: str, extra: Entry) -> int:
        """Change messages in hand; returns how many were still in hand."""
        changed = 0
        for batch in in_batches(range(len(messages))):
            entries = [{"ReceiptHandle": messages[position]["ReceiptHandle"], **extra} for position in batch]
            gone = await call_batch(queue.link, self._environment, method, queue.url, entries, harmless=True)
            changed += len(batch) - len(gone)
        return changed
