"""Messages on their way out: encoded, routed, published together, confirmed together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncq.driver import Clock, Publication
from asyncq.errors import BrokerError, BrokerFull, ConfigurationError, EncodeError, PublishError
from asyncq_brokers._clients.amqp import (
    UNROUTABLE,
    Channel,
    ConnectionLost,
    Link,
    Outgoing,
    Refused,
    encode_content_header,
    encode_route,
)

from .delays import Delays
from .messages import mark_parked, outgoing
from .topology import Topology

__all__ = ["MAX_MESSAGE_BYTES", "Publisher"]

#: RabbitMQ's default up to 3.13; 4.x has 16 MiB, which is asyncq's own bound for an app's messages.
MAX_MESSAGE_BYTES = 128 * 1024 * 1024


class Publisher:
    """Publishes with confirms, and never to nobody: what no queue takes comes back and is told."""

    def __init__(self, link: Link, topology: Topology, delays: Delays, clock: Clock) -> None:
        self._link = link
        self._topology = topology
        self._delays = delays
        self._clock = clock
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, publications: Sequence[Publication]) -> None:
        """Publish a batch. Raises as `Broker.publish` does."""
        failures = await self.store(publications)
        if failures:
            raise PublishError(failures)

    async def store(self, publications: Sequence[Publication]) -> dict[int, Exception]:
        """Publish a batch; returns what was refused, by position. Raises BrokerFull, BrokerConnectionError."""
        if not publications:
            return {}
        parks = any(publication.not_before is not None for publication in publications)
        if parks:
            await self._delays.make_levels()
        deadline = self._link.deadline()
        failures: dict[int, Exception] = {}
        left = await self._send(publications, range(len(publications)), failures, deadline, missing=False)
        if left:
            # A queue that was there is gone (deleted, expired): made again, as whoever publishes first would.
            for position in left:
                self._topology.forget(publications[position].queue)
            if parks:
                self._delays.forget()
                await self._delays.make_levels()
                deadline = self._link.deadline()
            left = await self._send(publications, left, failures, deadline, missing=True)
        for position in left:
            publication = publications[position]
            key = publication.queue if publication.routing_key is None else publication.routing_key
            where = f"exchange {publication.exchange!r}" if publication.exchange else "the default exchange"
            if publication.not_before is not None:
                where = "the exchange of the delay queues"
            failures[position] = BrokerError(f"no queue takes what {where} gets with routing key {key!r}")
        return failures

    async def _send(
        self, publications: Sequence[Publication], positions: Sequence[int], failures: dict[int, Exception],
        deadline: float, *, missing: bool,
    ) -> list[int]:  # fmt: skip
        """Publish some of a batch; returns the positions that no queue took."""
        batch: list[Outgoing] = []
        sent: list[int] = []
        for position in positions:
            try:
                batch.append(await self._prepare(publications[position], deadline, missing=missing))
            except (EncodeError, ConfigurationError, Refused) as error:
                failures[position] = error
            else:
                sent.append(position)
        refused = await self._confirmed(batch, deadline) if batch else {}
        unroutable: list[int] = []
        for number, reason in refused.items():
            if reason == UNROUTABLE:
                unroutable.append(sent[number])
            else:
                failures[sent[number]] = BrokerFull(f"queue {publications[sent[number]].queue!r}: {reason}")
        return sorted(unroutable)

    async def _prepare(self, publication: Publication, deadline: float, *, missing: bool) -> Outgoing:
        message = publication.message
        if isinstance(message, bytes):
            raise EncodeError("AMQP carries messages, and no bytes that nobody can take apart")
        if len(message.body) > MAX_MESSAGE_BYTES:
            raise EncodeError(f"the message has {len(message.body):,} bytes; RabbitMQ takes {MAX_MESSAGE_BYTES:,}")
        message = outgoing(message)
        if publication.target is not None:
            self._topology.learn(publication.target)
        exchange = publication.exchange
        key = publication.queue if publication.routing_key is None else publication.routing_key
        until = publication.not_before
        if until is not None and until <= self._clock.wall():
            until = None
        if until is not None:
            message = mark_parked(message, until)
        header = encode_content_header(message)
        # A parked message must find its queue when nobody looks any more.
        await self._topology.ensure(publication.queue, deadline, missing=missing or until is not None)
        if until is not None:
            exchange, key = await self._delays.way(self._topology.known(publication.queue), until, deadline)
        return Outgoing(encode_route(exchange, key), header, message.body)

    async def _confirmed(self, batch: Sequence[Outgoing], deadline: float) -> dict[int, str]:
        channel = await self._ready_channel(deadline)
        await channel.connection.ready_to_publish(deadline)
        try:
            return await channel.answer(channel.publish(batch), deadline)
        except Refused as refusal:
            # The channel is gone, and with it the confirms of those that went through before.
            self._topology.forget_all()
            raise ConnectionLost(f"RabbitMQ closed the channel while it took messages: {refusal}") from refusal

    async def _ready_channel(self, deadline: float) -> Channel:
        channel = self._channel
        if channel is not None and channel.error is None:
            return channel
        async with self._opening:
            if self._channel is None or self._channel.error is not None:
                channel = await self._link.channel(deadline)
                try:
                    await channel.confirm(deadline)
                except BaseException:
                    channel.leave()
                    raise
                self._channel = channel
            return self._channel
