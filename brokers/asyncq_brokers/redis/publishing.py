"""Messages on their way out: encoded, routed, stored as one batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count

from msgspec import Struct, field

from asyncq.driver import Environment, Publication
from asyncq.errors import BrokerConnectionError, BrokerFull, ConfigurationError, EncodeError, PublishError
from asyncq.protocol import encode_envelope
from asyncq_brokers._clients.redis import Command, Link

from .envelope import priority_of
from .keys import Keys, clamp
from .routing import matching_queues

__all__ = ["MAX_MESSAGE_BYTES", "Publisher"]

#: A string on Redis takes 512 MB, and a record is the message and its queue's name.
MAX_MESSAGE_BYTES = 511 * 1024 * 1024


class _Batch(Struct):
    """What a batch becomes on the server."""

    #: List -> envelopes in order, and the positions of their publications.
    pushes: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    positions: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    #: Further commands, and the position of each one's publication.
    parking: list[tuple[Command, int]] = field(default_factory=list[tuple[Command, int]])

    def push(self, name: str, envelope: bytes, position: int) -> None:
        self.pushes.setdefault(name, []).append(envelope)
        self.positions.setdefault(name, []).append(position)


class Publisher:
    """Publishes as kombu's producers do."""

    def __init__(self, link: Link, keys: Keys, expiring: Mapping[str, int], environment: Environment) -> None:
        self._link = link
        self._keys = keys
        #: Queue -> milliseconds after which its lists go unless something is published.
        self._expiring = expiring
        # kombu keys what Celery holds by this tag, so it must be unique; a UUID each would cost 2 µs.
        self._tag_prefix = environment.new_id()
        self._numbers = count()

    async def publish(self, publications: Sequence[Publication]) -> None:
        bindings = await self._bindings({p.exchange for p in publications if p.exchange})
        batch, failures = _Batch(), dict[int, Exception]()
        for position, publication in enumerate(publications):
            try:
                self._add(batch, publication, position, bindings)
            except (ConfigurationError, EncodeError) as error:
                failures[position] = error
        await self._store(batch, failures)
        if failures:
            raise PublishError(failures)

    async def _bindings(self, exchanges: Collection[str]) -> dict[str, Collection[bytes]]:
        """The binding sets of exchanges: asked for each time, as kombu does, since any process may change them."""
        if not exchanges:
            return {}
        names = sorted(exchanges)
        replies = await self._link.pipeline([("SMEMBERS", self._keys.binding(name)) for name in names])
        return dict(zip(names, replies, strict=True))

    def _add(
        self, batch: _Batch, publication: Publication, position: int, bindings: Mapping[str, Collection[bytes]]
    ) -> None:
        self._keys.check(publication.queue)
        routing_key = publication.queue if publication.routing_key is None else publication.routing_key
        tag = f"{self._tag_prefix}-{next(self._numbers):x}"
        message = publication.message
        if isinstance(message, bytes):
            envelope, priority = message, priority_of(message)
        else:
            priority = message.properties.priority or 0
            envelope = encode_envelope(
                message, routing_key=routing_key, exchange=publication.exchange, delivery_tag=tag
            )
        if len(envelope) > MAX_MESSAGE_BYTES:
            raise EncodeError(f"the message has {len(envelope)} bytes; Redis takes {MAX_MESSAGE_BYTES}")
        queues = [publication.queue]
        if publication.exchange:
            # An exchange that nobody has bound gets no message lost, as kombu would: the named queue takes it.
            queues = matching_queues(self._keys, bindings[publication.exchange], routing_key) or queues
        for queue in queues:
            if publication.not_before is None:
                batch.push(self._keys.list(queue, priority), envelope, position)
            else:
                stored = b"%d%b" % (clamp(priority), envelope)
                for command in self._parking(queue, tag, stored, publication.not_before):
                    batch.parking.append((command, position))
            if queue in self._expiring:
                for name in self._keys.lists(queue):
                    batch.parking.append((("PEXPIRE", name, self._expiring[queue]), position))

    def _parking(self, queue: str, tag: str, stored: bytes, until: float) -> list[Command]:
        return [
            ("ZADD", self._keys.parked(queue), repr(until), tag),
            ("HSET", self._keys.parked_messages(queue), tag, stored),
            ("SADD", self._keys.parked_queues, queue),
        ]

    async def _store(self, batch: _Batch, failures: dict[int, Exception]) -> None:
        """All or, on a full server, nothing. What a key of the wrong type refuses is added to the failures."""
        commands: list[Command] = [("LPUSH", name, *envelopes) for name, envelopes in batch.pushes.items()]
        positions = [batch.positions[name] for name in batch.pushes]
        for command, position in batch.parking:
            commands.append(command)
            positions.append([position])
        if not commands:
            return
        if len(commands) == 1:
            answers = await self._link.calls(commands)
            if isinstance(answers[0], BrokerFull | BrokerConnectionError | ConfigurationError):
                raise answers[0]
        else:
            answers = await self._link.transaction(commands)
        for answer, refused in zip(answers, positions, strict=True):
            if isinstance(answer, Exception):
                failures.update(dict.fromkeys(refused, answer))
