"""Facts and token buckets on Redis. The server's clock decides, and every key has a time to live."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from asyncq.driver import Coordination, Fact
from asyncq_brokers._clients.coordination import check_bucket, check_facts, check_keys, check_prefix, check_ttl

from .link import Link, Script, load_scripts

__all__ = ["RedisCoordination"]

_SCRIPTS = load_scripts("asyncq_brokers._clients.redis")


def _registering(name: str) -> Script:
    """One that writes facts: `register` stands before it."""
    return Script(name, _SCRIPTS["register"].source + b"\n" + _SCRIPTS[name].source)


_PUT, _INCR = _registering("put"), _registering("incr")
_DELETE, _TAKE, _SCAN = _SCRIPTS["delete"], _SCRIPTS["take"], _SCRIPTS["scan"]

#: Facts a script call: Redis serves nobody else meanwhile.
_BATCH = 500


class RedisCoordination:
    """Coordination over the connection of a driver, whose errors it raises. `prefix` stands before every key."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._prefix = f"{prefix}asyncq.facts."
        #: Sorted set: the names of facts.
        self._names = f"{prefix}asyncq.fact_names"
        self._bucket_prefix = f"{prefix}asyncq.buckets."
        #: Never written: see the broker's scripts.
        self._none = f"{prefix}asyncq.none"

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        check_facts(facts)
        condition = "absent" if if_absent else "same" if if_same else ""
        written: list[bool] = []
        for start in range(0, len(facts), _BATCH):
            arguments: list[str | bytes | int] = [self._prefix, condition]
            for fact in facts[start : start + _BATCH]:
                arguments += (fact.key, fact.value, _milliseconds(fact.ttl))
            answers: list[int] = await self._link.run(_PUT, [self._none, self._names], arguments)
            written += map(bool, answers)
        return written

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        check_keys(keys)
        return await self._link.call("MGET", *map(self._key, keys)) if keys else []

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        check_keys(keys)
        deleted = 0
        condition = ("", b"") if if_value is None else ("1", if_value)
        for start in range(0, len(keys), _BATCH):
            arguments = [self._prefix, *condition, *keys[start : start + _BATCH]]
            deleted += await self._link.run(_DELETE, [self._names], arguments)
        return deleted

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        check_keys([key])
        check_ttl(ttl)
        names, arguments = [self._none, self._names, self._key(key)], [self._prefix, key, by, _milliseconds(ttl)]
        number: int | None = await self._link.run(_INCR, names, arguments)
        if number is None:
            raise ValueError(f"the fact {key!r} holds no number")
        return number

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        check_bucket(bucket, rate=rate, capacity=capacity)
        names, arguments = [self._none, self._bucket_prefix + bucket], [repr(1e6 / rate), repr(capacity)]
        wait: int = await self._link.run(_TAKE, names, arguments)
        return wait / 1e6

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        check_prefix(prefix)
        facts: list[tuple[str, bytes]] = []
        first, last = f"[{prefix}", f"({prefix}\x7f"  # behind all characters that a key may have
        while True:
            arguments = [self._prefix, first, last, _BATCH]
            page: list[bytes] = await self._link.run(_SCAN, [self._names], arguments)
            facts += zip(map(bytes.decode, page[1::2]), page[2::2], strict=True)
            if not page[0]:
                return facts
            first = f"({page[0].decode()}"

    def _key(self, name: str) -> str:
        return self._prefix + name


def _milliseconds(ttl: float) -> int:
    return math.ceil(ttl * 1000)


if TYPE_CHECKING:
    _coordination: Callable[[Link, str], Coordination] = RedisCoordination
