"""Housekeeping that any consumer does for all: due messages, ended leases, and what Celery has left lying."""

from __future__ import annotations

import json
import logging
from collections.abc import MutableMapping, Sequence

from asyncq.driver import Environment
from asyncq_brokers._clients.redis import BrokerOptions, Link

from .deliveries import Deliveries, Move
from .envelope import split_foreign_record
from .keys import Keys
from .routing import matching_queues
from .scripts import script

__all__ = ["Housekeeper"]

logger = logging.getLogger(__name__)

#: The most of each kind that one round moves.
_MOST = 100

#: Seconds between two rounds: a message that another process parked is found this late at worst.
_ROUND = 1.0

#: Seconds until the next round when there is more to do.
_SOON = 0.002

#: Shortest and longest time between two sweeps of Celery's records, in seconds. kombu itself looks about every 100.
_SWEEP = (1.0, 60.0)


class Housekeeper:
    """The rounds of one consumer. Safe when everybody makes them at once: scripts check before they move."""

    def __init__(
        self, link: Link, deliveries: Deliveries, keys: Keys, options: BrokerOptions, environment: Environment
    ) -> None:
        self._link = link
        self._deliveries = deliveries
        self._keys = keys
        self._options = options
        self._environment = environment
        self._clock = environment.clock
        quarter = options.visibility_timeout / 4
        self._renew_every = quarter
        self._sweep_every = min(max(quarter, _SWEEP[0]), _SWEEP[1])
        self._renew_at = self._clock.monotonic() + self._renew_every
        self._sweep_at = self._clock.monotonic()
        #: Overdue records that the last sweep had to leave.
        self._left = 0

    async def run(self, held: MutableMapping[str, str]) -> float:
        """One round; returns the seconds until the next one is due.

        `held` are the tags that the consumer holds: what turns out to be held no more is taken out.
        """
        keys = self._keys
        moved, ended, nearest = await self._link.run(
            script("maintain"),
            [keys.none, keys.leases, keys.parked_queues],
            [_MOST, keys.prefix, keys.parked(""), keys.parked_messages(""), *map(keys.suffix, range(10))],
        )
        if ended:
            tags: list[str] = [tag.decode() for tag in ended]
            returned = await self._deliveries.put_back("expired", tags, started=True)
            if returned:
                logger.info("returned %d messages whose leases had ended to their queues", returned)
        now = self._clock.monotonic()
        if now >= self._renew_at:
            await self._renew(held)
            self._renew_at = now + self._renew_every
        if now >= self._sweep_at:
            await self._sweep()
            self._sweep_at = now + self._sweep_every
        if ended or moved >= _MOST:  # perhaps not all
            return _SOON
        return max(_SOON, min(float(nearest or _ROUND), _ROUND, self._renew_every))

    async def _renew(self, held: MutableMapping[str, str]) -> None:
        tags = list(held)
        for position in await self._deliveries.renew(tags):
            held.pop(tags[position], None)

    async def _sweep(self) -> None:
        """Return what is overdue by Celery's rule and under Celery's lock, whoever took it.

        Celery does it too, but watches the whole hash of records for changes, which under load never stand still: 20
        messages were not restored after 10,205 tries.
        """
        mutex, token = self._keys.unacked_mutex, self._environment.new_id()
        expire = int(self._options.unacked_mutex_expire * 1000)
        try:
            if await self._link.run(script("lock"), [self._keys.none, mutex], [token, expire]):
                await self._restore_overdue()
        finally:
            # Whatever became of the lock, cancelled or not: Celery's sweeps wait for this lock for minutes.
            await self._link.run(script("unlock"), [mutex], [token])

    async def _restore_overdue(self) -> None:
        seconds, micros = await self._link.call("TIME")
        cutoff = int(seconds) + int(micros) / 1e6 - self._options.visibility_timeout
        left = 0
        while True:
            # The youngest first, as Celery does it: each goes to the front of its list.
            tags = await self._link.call(
                "ZRANGE", self._keys.unacked_index, repr(cutoff), "-inf", "BYSCORE", "REV", "LIMIT", left, _MOST
            )
            if tags:
                left += await self._restore([tag.decode() for tag in tags])
            if len(tags) < _MOST:
                break
        if left and left != self._left:
            logger.warning("%d overdue records in %s can't be restored", left, self._keys.unacked)
        self._left = left

    async def _restore(self, tags: Sequence[str]) -> int:
        """Put overdue messages back; returns how many stay where they are."""
        moves: list[Move] = []
        for tag, record in zip(tags, await self._deliveries.unacked(tags), strict=True):
            moves.append(Move(tag, "N") if record is None else await self._overdue(tag, record))
        await self._deliveries.move("overdue", moves, age=self._options.visibility_timeout)
        scores = await self._link.call("ZMSCORE", self._keys.unacked_index, *tags)
        return sum(score is not None for score in scores)

    async def _overdue(self, tag: str, record: bytes) -> Move:
        """Where the message of an overdue record goes. What can't be told is left for somebody who can."""
        parts = split_foreign_record(record)
        if parts is None:
            return Move(tag, "N")
        message, priority, exchange, routing_key = parts
        if exchange:
            members = await self._link.call("SMEMBERS", self._keys.binding(exchange))
            queues = matching_queues(self._keys, members, routing_key)
        else:
            queues = [routing_key]
        if not queues:
            return Move(tag, "N")
        return Move(tag, "M", json.dumps([self._keys.list(queue, priority) for queue in queues]), message)
