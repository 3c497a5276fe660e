"""Exchanges, queues and bindings, declared exactly as Celery declares them (amqp.md, section 2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pamqp import commands

from asyncq.driver import Queue
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.amqp import Connection, Link, Refused

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["Topology", "dead_queue"]

logger = logging.getLogger(__name__)

#: Declarations under way, each on a channel of its own: a thousand senders to a new queue must not open as many.
_MOST_AT_ONCE = 4


class Topology:
    """What was declared on one connection after another; each thing once a connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        #: As the app knows them.
        self._known: dict[str, Queue] = {}
        #: Names of queues that exist, as this connection has seen it.
        self._declared: set[str] = set()
        self._connection: Connection | None = None
        self._declaring = asyncio.Semaphore(_MOST_AT_ONCE)

    def learn(self, queue: Queue) -> None:
        """Remember how a queue is declared."""
        self._known[queue.name] = queue

    def known(self, name: str) -> Queue:
        """How a queue is declared: as we were told, else as Celery makes up what is missing."""
        queue = self._known.get(name)
        if queue is None:
            base = name.removesuffix(".dead")
            queue = dead_queue(self._known[base]) if base != name and base in self._known else Queue(name=name)
        return queue

    def forget(self, name: str) -> None:
        """A queue is gone: declare it again before the next use."""
        self._declared.discard(name)

    def forget_all(self) -> None:
        """Something is gone."""
        self._declared.clear()

    async def ensure(self, name: str, deadline: float, *, missing: bool = False) -> None:
        """Declare a queue that this connection hasn't seen yet. Raises ConfigurationError, BrokerError.

        Whoever was told nothing of a queue leaves it to others, unless it may be `missing`.
        """
        if name not in self._known and not missing:
            return
        connection = await self._link.connected(deadline)
        if connection is not self._connection:
            self._connection = connection
            self._declared.clear()
        if name in self._declared:
            return
        async with self._declaring:
            if name in self._declared:
                return
            if name in self._known or not await exists(connection, name, deadline):
                await declare(connection, self.known(name), deadline)
            self._declared.add(name)

    async def declare(self, queues: Sequence[Queue], deadline: float) -> None:
        """Learn queues, and declare them now."""
        for queue in queues:
            self.learn(queue)
            self.forget(queue.name)
            await self.ensure(queue.name, deadline)


async def declare(connection: Connection, queue: Queue, deadline: float) -> None:
    """Declare exchange, queue and binding. Raises ConfigurationError for a conflict, BrokerError."""
    channel = await connection.channel(deadline)
    try:
        await channel.calls(_methods(queue), deadline)
    except Refused as refusal:
        if refusal.code == Refused.OTHER_ARGUMENTS:
            raise _conflict(queue, refusal) from refusal
        if refusal.code != Refused.NO_RIGHTS:
            raise
        # Then it must be there already, and others have bound it.
        if not await exists(connection, queue.name, deadline):
            raise ConfigurationError(
                f"queue {queue.name!r} is not there, and we have no right to declare it: {refusal.text}"
            ) from refusal
        logger.debug("No right to declare queue %s, which exists", queue.name)
    finally:
        channel.leave()


async def exists(connection: Connection, name: str, deadline: float) -> bool:
    """Look whether there is a queue of that name. Raises BrokerError."""
    channel = await connection.channel(deadline)
    try:
        await channel.call(commands.Queue.Declare(0, name, passive=True), deadline)
    except Refused as refusal:
        if refusal.code != Refused.NOT_FOUND:
            raise
        return False
    else:
        return True
    finally:
        channel.leave()


def dead_queue(queue: Queue) -> Queue:
    """Where the dead letters of a queue stand: a queue of the same type, so that it lasts as long."""
    kept = {name: value for name, value in queue.arguments.items() if name == "x-queue-type"}
    return Queue(name=f"{queue.name}.dead", arguments=kept)


def _methods(queue: Queue) -> list[Frame]:
    exchange = queue.name if queue.exchange is None else queue.exchange
    routing_key = queue.name if queue.routing_key is None else queue.routing_key
    methods: list[Frame] = []
    own = bool(exchange) and not exchange.startswith("amq.")
    if own:
        methods.append(commands.Exchange.Declare(0, exchange, queue.exchange_type, durable=queue.durable))
    methods.append(
        commands.Queue.Declare(
            0, queue.name, durable=queue.durable, auto_delete=queue.auto_delete, arguments=dict(queue.arguments)
        )
    )
    if exchange:
        methods.append(commands.Queue.Bind(0, queue.name, exchange, routing_key))
    return methods


def _conflict(queue: Queue, refusal: Refused) -> ConfigurationError:
    exchange = queue.name if queue.exchange is None else queue.exchange
    what = f"the exchange {exchange!r} of queue {queue.name!r}" if refusal.of_exchange else f"queue {queue.name!r}"
    asked = f"exchange type {queue.exchange_type!r}, durable={queue.durable}, arguments {dict(queue.arguments)!r}"
    return ConfigurationError(
        f"{what} exists with other arguments than asked for ({asked}). RabbitMQ says: {refusal.text}. "
        "Declare it in `queues` as it exists, or delete it there"
    )
