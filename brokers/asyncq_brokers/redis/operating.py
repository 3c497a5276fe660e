"""What an operator sees and does: depth, purge, peek, move, drop, release."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from hashlib import sha256

from asyncq.driver import Environment, Place, QueueDepth, Stored
from asyncq_brokers._clients.redis import Link

from .deliveries import Deliveries, parked
from .envelope import priority_of
from .keys import PRIORITIES, Keys
from .scripts import script

__all__ = ["Operator"]

#: Elements of a list that are read in one call.
_PAGE = 1000


class Operator:
    """Looks at queues and changes them without consuming."""

    def __init__(self, link: Link, keys: Keys, environment: Environment) -> None:
        self._link = link
        self._keys = keys
        self._environment = environment
        self._deliveries = Deliveries(link, keys)

    async def release(self, node: str, ended: Collection[str]) -> int:
        tags = [tag.decode() for tag in await self._link.call("ZRANGE", self._keys.leases, 0, -1)]
        held = [tag for tag in tags if tag.rsplit("/", 2)[0] == node]
        await self._deliveries.ack([tag for tag in held if tag in ended])
        return await self._deliveries.put_back("held", held, started=True)

    async def depth(self, queue: str) -> QueueDepth:
        keys = self._keys
        lists = keys.lists(queue)
        *ready, dead, waiting = await self._link.pipeline(
            [
                *(("LLEN", name) for name in lists),
                ("LLEN", keys.dead(queue)),
                ("ZCARD", keys.parked(queue)),
            ]
        )
        name = json.dumps(queue)
        # As asyncq ends a record, as Celery does without an exchange, and with the exchange of the queue's own name.
        endings = [f',"",{name}]', f', "", {name}]', f", {name}, {name}]"]
        in_flight = await self._link.run(script("in_flight"), [keys.unacked, keys.unreadable], endings)
        return QueueDepth(ready=sum(ready), in_flight=in_flight, parked=waiting, dead=dead)

    async def purge(self, queue: str) -> int:
        return await self._link.run(script("purge"), self._keys.lists(queue), [])

    async def peek(self, queue: str, place: Place, limit: int, offset: int) -> list[Stored]:
        if place == "parked":
            return await self._peek_parked(queue, limit, offset)
        found: list[Stored] = []
        names = self._lists(queue, place)
        lengths = await self._link.pipeline([("LLEN", name) for name in names])
        for name, length in zip(names, lengths, strict=True):
            passed = min(offset, length)
            offset -= passed
            wanted = min(limit - len(found), length - passed)
            if wanted > 0:
                # The tail of a list is served first.
                raws = await self._link.call("LRANGE", name, -passed - wanted, -passed - 1)
                found += (Stored(key=_key(raw), queue=queue, content=raw) for raw in reversed(raws))
        return found

    async def move(self, queue: str, place: Place, keys: Sequence[str], until: float | None) -> int:
        if place == "parked":
            return await self._unpark(queue, keys, "L" if until is None else "P", until or 0.0)
        moved = 0
        for name, raws in (await self._find(queue, place, keys)).items():
            arguments: list[str | bytes] = []
            for raw in raws:
                if until is None:
                    arguments += (raw, self._keys.list(queue, priority_of(raw)), raw, "", "")
                else:
                    move = parked(self._keys, self._environment.new_id(), queue, raw, until)
                    arguments += (raw, move.place, move.message, move.extra, move.tag)
            moved += await self._relist(name, "L" if until is None else "P", arguments)
        return moved

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        if place == "parked":
            return await self._unpark(queue, keys, "D", 0.0)
        dropped = 0
        for name, raws in (await self._find(queue, place, keys)).items():
            arguments = [argument for raw in raws for argument in (raw, "", "", "", "")]
            dropped += await self._relist(name, "D", arguments)
        return dropped

    def _lists(self, queue: str, place: Place) -> list[str]:
        return [self._keys.dead(queue)] if place == "dead" else self._keys.lists(queue)

    async def _peek_parked(self, queue: str, limit: int, offset: int) -> list[Stored]:
        if limit < 1:
            return []
        reply = await self._link.call("ZRANGE", self._keys.parked(queue), offset, offset + limit - 1, "WITHSCORES")
        ids = reply[::2]
        if not ids:
            return []
        messages = await self._link.call("HMGET", self._keys.parked_messages(queue), *ids)
        return [
            Stored(key=key.decode(), queue=queue, content=message[1:], until=float(until))
            for key, until, message in zip(ids, reply[1::2], messages, strict=True)
            if message is not None
        ]

    async def _unpark(self, queue: str, ids: Sequence[str], action: str, until: float) -> int:
        if not ids:
            return 0
        return await self._link.run(
            script("unpark"),
            [self._keys.none, self._keys.parked(queue), self._keys.parked_messages(queue)],
            [action, repr(until), self._keys.list(queue), *map(self._keys.suffix, PRIORITIES), *ids],
        )

    async def _find(self, queue: str, place: Place, keys: Sequence[str]) -> dict[str, list[bytes]]:
        """The messages that the keys name, by the list that they stand in.

        A list has no ids, so the key is a digest of the message: two that are the same byte for byte share it, and each
        mention of the key means one of them.
        """
        wanted = list(keys)
        found: dict[str, list[bytes]] = {}
        for name in self._lists(queue, place):
            start = -1
            while wanted:
                raws = await self._link.call("LRANGE", name, start - _PAGE + 1, start)
                for raw in reversed(raws):
                    if (key := _key(raw)) in wanted:
                        wanted.remove(key)
                        found.setdefault(name, []).append(raw)
                if len(raws) < _PAGE:
                    break
                start -= _PAGE
        return found

    async def _relist(self, name: str, action: str, arguments: Sequence[str | bytes]) -> int:
        return await self._link.run(
            script("relist"), [self._keys.none, name, self._keys.parked_queues], [action, *arguments]
        )


def _key(raw: bytes) -> str:
    return sha256(raw).hexdigest()[:32]
