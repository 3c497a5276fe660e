"""Parked messages: Celery's native delayed delivery (messages.md, section 11; amqp.md, section 13).

28 levels of a topic exchange and a queue each. The routing key begins with the delay in seconds as 28 binary digits: at
level L a 1 waits 2^L seconds in that level's queue, a 0 passes on. Nobody holds a message meanwhile, no worker has to
live for it to come back, and RabbitMQ's consumer time-out never bites.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pamqp import commands

from asyncq.driver import Clock, Queue
from asyncq.errors import EncodeError
from asyncq_brokers._clients.amqp import Connection, Link, Refused

from .topology import exists

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["LEVELS", "PREFIXES", "Delays", "level_name", "split_key"]

logger = logging.getLogger(__name__)

LEVELS = 28
_LONGEST = 2**LEVELS - 1

#: Celery's own set, and ours where a fleet has made Celery's of classic queues, which lose messages when the server is
#: killed (measured: 1,201 of 3,000; quorum queues none).
PREFIXES = ("celery_delayed", "asyncq.delayed")

_OTHER_ARGUMENTS = 406
_STARS = "*." * LEVELS


def level_name(prefix: str, level: int) -> str:
    """Exchange and queue of a level."""
    return f"{prefix}_{level}"


def split_key(routing_key: str) -> str | None:
    """The routing key that a delayed one ends in; None for one that is not delayed."""
    digits, rest = routing_key[: 2 * LEVELS], routing_key[2 * LEVELS :]
    return rest if len(digits) == 2 * LEVELS and set(digits[::2]) <= {"0", "1"} and set(digits[1::2]) == {"."} else None


class Delays:
    """Makes the levels when they are first needed on a connection, and the way back into each queue."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._prefix = PREFIXES[0]
        self._connection: Connection | None = None
        self._bound: set[str] = set()

    async def make_levels(self) -> None:
        """See that the levels are there. A busy server needs seconds to make them, once in its life.

        So this stands outside any other call's deadline. Raises BrokerError.
        """
        connection = await self._link.connected(self._link.deadline())
        if connection is not self._connection:
            self._prefix = await self._usable_prefix(connection)
            self._connection = connection
            self._bound.clear()

    async def prepare(self, queue: Queue, deadline: float) -> None:
        """Make a way back into a queue, which exists, from levels that were made.

        Raises EncodeError for a queue whose name leaves no room in the key; BrokerError.
        """
        if len(queue.name.encode()) > 255 - 2 * LEVELS:
            raise EncodeError(f"the name of queue {queue.name!r} is too long for delayed messages")
        if queue.name not in self._bound:
            await self._bind(await self._link.connected(deadline), queue, deadline)
            self._bound.add(queue.name)

    async def way(self, queue: Queue, until: float, deadline: float) -> tuple[str, str]:
        """Exchange and routing key that bring a message to a queue at a UNIX time, never early. Raises as `prepare`."""
        await self.prepare(queue, deadline)
        wait = min(max(1, math.ceil(until - self._clock.wall())), _LONGEST)
        return level_name(self._prefix, LEVELS - 1), ".".join(f"{wait:0{LEVELS}b}") + "." + queue.name

    async def _usable_prefix(self, connection: Connection) -> str:
        for prefix in PREFIXES[:-1]:
            try:
                await self._make(connection, prefix)
            except Refused as refusal:
                if refusal.code != _OTHER_ARGUMENTS:
                    raise
                logger.warning(
                    "The delay queues %s_… exist with other arguments than asyncq's, which survive a killed server; "
                    "parking in %s_… instead. RabbitMQ says: %s",
                    prefix,
                    PREFIXES[-1],
                    refusal.text,
                )
            else:
                return prefix
        await self._make(connection, PREFIXES[-1])
        return PREFIXES[-1]

    async def _make(self, connection: Connection, prefix: str) -> None:
        # The top is made last: where it is, the others are. Declared again, it tells whether it is as ours.
        first = LEVELS - 1
        if not await exists(connection, level_name(prefix, first), self._link.deadline()):
            delivery = commands.Exchange.Declare(0, f"{prefix}_delivery", "topic", durable=True)
            await _declare(connection, [delivery], self._link.deadline())
            first = 0
        for level in range(first, LEVELS):
            await _declare(connection, _level(prefix, level), self._link.deadline())

    async def _bind(self, connection: Connection, queue: Queue, deadline: float) -> None:
        keys = {queue.name}
        if queue.exchange_type != "direct":  # where Celery's clients send what is delayed there by the queue's key
            keys.add(queue.name if queue.routing_key is None else queue.routing_key)
        # Exactly 28 words and the key. Celery's own `#.<key>` would take what is for `other.<key>` as well.
        delivery = f"{self._prefix}_delivery"
        await _declare(
            connection, [commands.Queue.Bind(0, queue.name, delivery, _STARS + key) for key in sorted(keys)], deadline
        )


async def _declare(connection: Connection, methods: Sequence[Frame], deadline: float) -> None:
    channel = await connection.channel(deadline)
    try:
        await channel.calls(methods, deadline)
    finally:
        channel.leave()


def _level(prefix: str, level: int) -> Sequence[Frame]:
    name = level_name(prefix, level)
    below = level_name(prefix, level - 1) if level else f"{prefix}_delivery"
    stars = "*." * (LEVELS - 1 - level)
    arguments: dict[str, Any] = {  # Any: as AMQP's tables are
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**level * 1000,
        "x-dead-letter-exchange": below,
        "x-dead-letter-strategy": "at-least-once",
    }
    return [
        commands.Exchange.Declare(0, name, "topic", durable=True),
        commands.Queue.Declare(0, name, durable=True, arguments=arguments),
        commands.Queue.Bind(0, name, name, f"{stars}1.#"),
        commands.Exchange.Bind(0, below, name, f"{stars}0.#"),
    ]
