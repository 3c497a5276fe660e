"""Sends on behalf of tasks that run: further members of the chord that they stand in."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from itertools import chain as joined
from typing import Any

import anyio
from msgspec.structs import replace

from asyncq.canvas import ChainNode, ChordNode, Document, GroupNode, Node, TaskNode, read_node, size_of
from asyncq.driver import Broker, Publication
from asyncq.errors import BrokerConnectionError, BrokerFull, ConfigurationError, SignatureError
from asyncq.protocol import TaskMessage
from asyncq.worker._backoff import Backoff
from asyncq.worker._chords import ChordKeeper
from asyncq.worker._continuation import Continuation

logger = logging.getLogger("asyncq.worker")

# `Any` below: result tuples, which are nested lists of ids and None.


class Courier:
    """One worker's."""

    def __init__(
        self, broker: Broker, chords: ChordKeeper | None, continuation: Continuation, dice: random.Random
    ) -> None:
        self._broker = broker
        self._dice = dice
        self._chords = chords
        self._continuation = continuation

    async def add_to_chord(self, message: TaskMessage, document: Document, number: int) -> list[Any]:
        """Send one more member of the chord that a task stands in, its `number`th; return its result tuple.

        Raises ConfigurationError, SignatureError, EncodeError, BrokerError, BackendError.
        """
        if message.chord is None or message.group is None:
            raise ConfigurationError(f"{message.task}[{message.id}] is in no chord's header")
        if self._chords is None:
            raise ConfigurationError(
                "a chord grows where the result backend brings its parts together: Redis, SQLite …"
            )
        node = _in_header(read_node(document), message)
        sequel = self._continuation.sent_by(message, node, [], number=number)
        # A task that runs again sends the same member again, and the chord must not expect two.
        await self._chords.grow(message.group, size_of(node), name=f"{message.id}.{number}")
        for batch in joined([sequel.first], *sequel.more):
            if batch.openings:
                await self._chords.open(batch.openings)
            await self._publish(batch.messages)
        return sequel.children[0]

    async def _publish(self, messages: Sequence[Publication]) -> None:
        """Raises BrokerError for what is refused for good.

        A broker that is away is waited for: the chord expects these members by now, and a task that failed here would
        leave it waiting for ever.
        """
        backoff = Backoff(self._dice)
        while True:
            try:
                await self._broker.publish(messages)
            except (BrokerConnectionError, BrokerFull) as error:
                if not backoff.failing:
                    logger.warning("%d messages of a chord's new member wait for the broker: %s", len(messages), error)
                await anyio.sleep(backoff.next_delay())
            else:
                return


def _in_header(node: Node, message: TaskMessage) -> Node:
    """A copy whose result is a part of the same chord, in the place of the task that sends it."""
    if node.options.get("chord") is not None:
        raise SignatureError("what is a chord's member already can't become another's")
    place = {"group_id": message.group, "group_index": message.group_index, "chord": message.chord}
    match node:
        case TaskNode() | ChainNode():
            return replace(node, options={**node.options, **place})
        case GroupNode():
            return replace(node, tasks=[_in_header(member, message) for member in node.tasks])
        case ChordNode(body=body) if body is not None:
            return replace(node, body=_in_header(body, message))
        case ChordNode():
            return _in_header(node.header, message)
