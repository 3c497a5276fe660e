"""Messages on their way out: encoded, routed, published together, confirmed together."""

from __future__ import annotations

from collections.abc import Sequence

from asyncq.driver import Clock, Publication
from asyncq.errors import BrokerError, BrokerFull, ConfigurationError, EncodeError, PublishError
from asyncq.protocol import WireMessage
from asyncq_brokers._clients.amqp import (
    UNROUTABLE,
    ConnectionLost,
    Link,
    Outgoing,
    Outlets,
    Refused,
    Terms,
    encode_content_header,
    encode_route,
)

from .delays import Delays
from .messages import mark_parked, outgoing, unmarked
from .topology import Topology

__all__ = ["MAX_MESSAGE_BYTES", "Publisher"]

#: RabbitMQ's default up to 3.13; 4.x has 16 MiB, which is asyncq's own bound for an app's messages.
MAX_MESSAGE_BYTES = 128 * 1024 * 1024


class Publisher:
    """Publishes with confirms, in order for each exchange. What no exchange or no queue takes is told to its sender."""

    def __init__(self, link: Link, topology: Topology, delays: Delays, clock: Clock) -> None:
        self._link = link
        self._topology = topology
        self._delays = delays
        self._clock = clock
        self._outlets = Outlets(link)

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
            # What was there is gone (deleted, expired): made again, as whoever publishes first would.
            for position in left:
                self._topology.forget(publications[position].queue)
            if parks:
                self._delays.forget()
                await self._delays.make_levels()
                deadline = self._link.deadline()
            left = await self._send(publications, sorted(left), failures, deadline, missing=True)
        return failures | left

    async def _send(
        self, publications: Sequence[Publication], positions: Sequence[int], failures: dict[int, Exception],
        deadline: float, *, missing: bool,
    ) -> dict[int, BrokerError]:  # fmt: skip
        """Publish some of a batch; returns the positions for which there is no exchange, or no queue behind it."""
        # A connection that the server has blocked would answer no declaration either.
        connection = await self._link.connected(deadline)
        await connection.ready_to_publish(deadline)
        batches: dict[str, tuple[list[int], list[Outgoing]]] = {}
        for position in positions:
            try:
                exchange, message = await self._prepare(
                    publications[position], connection.terms, deadline, missing=missing
                )
            except (EncodeError, ConfigurationError, Refused) as error:
                failures[position] = error
            else:
                sent, batch = batches.setdefault(exchange, ([], []))
                sent.append(position)
                batch.append(message)
        left: dict[int, BrokerError] = {}
        for exchange, (sent, batch) in batches.items():
            try:
                refused = await self._outlets.to(exchange).publish(batch, deadline)
            except Refused as refusal:  # which concerns the exchange, and so all of them
                places = left if refusal.code == Refused.NOT_FOUND else failures
                places |= {position: Refused(*refusal.args) for position in sent}
                continue
            except ConnectionLost:
                self._topology.forget_all()
                raise
            for number, reason in refused.items():
                publication = publications[sent[number]]
                if reason == UNROUTABLE:
                    left[sent[number]] = _nobody(publication)
                else:
                    failures[sent[number]] = BrokerFull(f"queue {publication.queue!r}: {reason}")
        return left

    async def _prepare(
        self, publication: Publication, terms: Terms, deadline: float, *, missing: bool
    ) -> tuple[str, Outgoing]:
        """The message as it goes, and to which exchange."""
        message = publication.message
        if isinstance(message, bytes):
            raise EncodeError("AMQP carries messages, and no bytes that nobody can take apart")
        if len(message.body) > terms.body_max:
            raise EncodeError(f"the message has {len(message.body):,} bytes; RabbitMQ takes {terms.body_max:,}")
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
        header = _fitting_header(message, terms.payload_max)
        # A parked message must find its queue when nobody looks any more.
        await self._topology.ensure(publication.queue, deadline, missing=missing or until is not None)
        if until is not None:
            exchange, key = await self._delays.way(self._topology.known(publication.queue), until, deadline)
        return exchange, Outgoing(encode_route(exchange, key), header, message.body)


def _fitting_header(message: WireMessage, most: int) -> bytes:
    """The content header. What asyncq has added to the message is left out where there is no room for it."""
    header = encode_content_header(message)
    if len(header) > most:
        header = encode_content_header(unmarked(message))
        if len(header) > most:
            raise EncodeError(f"the message has {len(header):,} bytes of headers; RabbitMQ takes {most:,}")
    return header


def _nobody(publication: Publication) -> BrokerError:
    key = publication.queue if publication.routing_key is None else publication.routing_key
    where = f"exchange {publication.exchange!r}" if publication.exchange else "the default exchange"
    if publication.not_before is not None:
        where = "the exchange of the delay queues"
    return BrokerError(f"no queue takes what {where} gets with routing key {key!r}")
