"""Parked messages, in the way of Celery's native delayed delivery (messages.md, section 11; amqp.md, section 13).

28 levels of a topic exchange and a queue each. The routing key begins with the delay in seconds as 28 binary digits: at
level L a 1 waits 2^L seconds in that level's queue, a 0 passes on. Nobody holds a message meanwhile, no worker has to
live for it to come back, and RabbitMQ's consumer time-out never bites.

asyncq parks in levels of its own. Celery's end in an exchange to which workers bind queues by the keys of users: one
bound by `#` gets whatever comes out there, so a retry for one queue ran twice. Celery's levels are made as well where
its clients use them: for queues whose exchange is not direct.
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

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["LEVELS", "PREFIXES", "Delays", "level_name", "split_key"]

logger = logging.getLogger(__name__)

LEVELS = 28
_LONGEST = 2**LEVELS - 1

_OURS, _CELERYS = "asyncq.delayed", "celery_delayed"

#: Of the levels in which messages may be parked.
PREFIXES = (_OURS, _CELERYS)

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
        self._connection: Connection | None = None
        self._bound: set[str] = set()

    async def make_levels(self) -> None:
        """See that all levels are there. A busy server needs seconds to make them, once in its life.

        So this stands outside any other call's deadline. Raises BrokerError.
        """
        connection = await self._link.connected(self._link.deadline())
        if connection is not self._connection:
            if not await self._are_there(connection):
                await self._make(connection, _OURS)
            self._connection = connection
            self._bound.clear()

    def forget(self) -> None:
        """Something is gone: look at everything again before the next use."""
        self._connection = None

    async def prepare(self, queue: Queue, deadline: float) -> None:
        """Make a way back into a queue, which exists, from levels that were made.

        Raises EncodeError for a queue whose name leaves no room in the key; BrokerError.
        """
        if len(queue.name.encode()) > 255 - 2 * LEVELS:
            raise EncodeError(f"the name of queue {queue.name!r} is too long for delayed messages")
        if queue.name not in self._bound:
            await _bind(await self._link.connected(deadline), queue.name, _OURS, queue.name, deadline)
            self._bound.add(queue.name)

    async def way(self, queue: Queue, until: float, deadline: float) -> tuple[str, str]:
        """Exchange and routing key that bring a message to a queue at a UNIX time, never early. Raises as `prepare`."""
        await self.prepare(queue, deadline)
        wait = min(max(1, math.ceil(until - self._clock.wall())), _LONGEST)
        return level_name(_OURS, LEVELS - 1), ".".join(f"{wait:0{LEVELS}b}") + "." + queue.name

    async def let_celerys_in(self, queues: Sequence[Queue]) -> None:
        """Let what Celery's clients delay reach queues, which exist: clients declare nothing of it. Raises BrokerError.

        They delay what goes to an exchange that is not direct, under the queue's own key.
        """
        delayed = [queue for queue in queues if queue.exchange_type != "direct"]
        if not delayed:
            return
        connection = await self._link.connected(self._link.deadline())
        try:
            await self._make(connection, _CELERYS)
        except Refused as refusal:
            if refusal.code != Refused.OTHER_ARGUMENTS:
                raise
            # Measured: of 3,000 messages, classic queues lost 1,201 when the server was killed; quorum queues none.
            logger.warning(
                "The delay queues %s_… exist with other arguments than those that survive a killed server. What "
                "Celery's clients delay there may be lost; what asyncq parks is not there. RabbitMQ says: %s",
                _CELERYS,
                refusal.text,
            )
        for queue in delayed:
            key = queue.name if queue.routing_key is None else queue.routing_key
            await _bind(connection, queue.name, _CELERYS, key, self._link.deadline())

    async def _are_there(self, connection: Connection) -> bool:
        channel = await connection.channel(self._link.deadline())
        try:
            names = [level_name(_OURS, level) for level in range(LEVELS)]
            looks = [commands.Queue.Declare(0, name, passive=True) for name in names]
            await channel.calls(looks, self._link.deadline())
        except Refused as refusal:
            if refusal.code != Refused.NOT_FOUND:
                raise
            return False
        else:
            return True
        finally:
            channel.leave()

    async def _make(self, connection: Connection, prefix: str) -> None:
        delivery = commands.Exchange.Declare(0, _delivery(prefix), "topic", durable=True)
        await _declare(connection, [delivery], self._link.deadline())
        for level in range(LEVELS):
            await _declare(connection, _level(prefix, level), self._link.deadline())


def _delivery(prefix: str) -> str:
    """The exchange in which the lowest level ends."""
    return f"{prefix}_delivery"


async def _bind(connection: Connection, queue: str, prefix: str, key: str, deadline: float) -> None:
    # Exactly 28 words and the key. Celery's own `#.<key>` would take what is for `other.<key>` as well.
    await _declare(connection, [commands.Queue.Bind(0, queue, _delivery(prefix), _STARS + key)], deadline)


async def _declare(connection: Connection, methods: Sequence[Frame], deadline: float) -> None:
    channel = await connection.channel(deadline)
    try:
        await channel.calls(methods, deadline)
    finally:
        channel.leave()


def _level(prefix: str, level: int) -> Sequence[Frame]:
    name = level_name(prefix, level)
    below = level_name(prefix, level - 1) if level else _delivery(prefix)
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
