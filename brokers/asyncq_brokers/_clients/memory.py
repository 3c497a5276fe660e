"""What the memory broker and the memory backend share: facts in this process."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from asyncq.driver import Coordination, DriverConfig, Fact
from asyncq_brokers._clients.coordination import (
    check_bucket,
    check_facts,
    check_keys,
    check_prefix,
    check_ttl,
    read_counter,
    reserve,
)

__all__ = ["MemoryCoordination"]

#: Seconds between two sweeps for what has expired, at least. Readers never see it.
SWEEP = 60.0


class _Entry(NamedTuple):
    value: bytes
    #: Monotonic.
    expires: float


class _Store:
    """The state that all instances share. Each method is atomic, and none waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, _Entry] = {}
        #: Monotonic times at which buckets will be full.
        self._buckets: dict[str, float] = {}
        self._next_sweep = 0.0

    def put(self, facts: Iterable[Fact], now: float, *, if_absent: bool, if_same: bool) -> list[bool]:
        written: list[bool] = []
        with self._lock:
            self._sweep(now)
            for fact in facts:
                found = self._find(fact.key, now)
                written.append(found is None if if_absent else not if_same or found == fact.value)
                if written[-1]:
                    self._facts[fact.key] = _Entry(fact.value, now + fact.ttl)
        return written

    def get(self, keys: Iterable[str], now: float) -> list[bytes | None]:
        with self._lock:
            return [self._find(key, now) for key in keys]

    def delete(self, keys: Iterable[str], now: float, *, if_value: bytes | None) -> int:
        deleted = 0
        with self._lock:
            for key in keys:
                value = self._find(key, now)
                if value is not None and if_value in {None, value}:
                    del self._facts[key]
                    deleted += 1
        return deleted

    def incr(self, key: str, now: float, *, by: int, ttl: float) -> int:
        with self._lock:
            self._sweep(now)
            number = read_counter(key, self._find(key, now)) + by
            self._facts[key] = _Entry(b"%d" % number, now + ttl)
        return number

    def take(self, bucket: str, now: float, *, rate: float, capacity: float) -> float:
        with self._lock:
            self._sweep(now)
            wait, self._buckets[bucket] = reserve(self._buckets.get(bucket), now, rate=rate, capacity=capacity)
        return wait

    def scan(self, prefix: str, now: float) -> list[tuple[str, bytes]]:
        with self._lock:
            return sorted(
                (key, entry.value)
                for key, entry in self._facts.items()
                if key.startswith(prefix) and entry.expires > now
            )

    # -- with the lock held

    def _find(self, key: str, now: float) -> bytes | None:
        entry = self._facts.get(key)
        return None if entry is None or entry.expires <= now else entry.value

    def _sweep(self, now: float) -> None:
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP
        self._facts = {key: entry for key, entry in self._facts.items() if entry.expires > now}
        self._buckets = {bucket: full_at for bucket, full_at in self._buckets.items() if full_at > now}


class MemoryCoordination:
    """Shared by all instances of one app and URL, brokers and backends alike, from whatever thread and event loop.

    `turn` is the driver's: it lets others run, and raises when the driver is closed.
    """

    def __init__(self, config: DriverConfig, turn: Callable[[], Awaitable[None]]) -> None:
        self._store = cast("_Store", config.shared.setdefault(f"{__name__} {config.url}", _Store()))
        self._clock = config.environment.clock
        self._turn = turn

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        check_facts(facts)
        await self._turn()
        return self._store.put(facts, self._clock.monotonic(), if_absent=if_absent, if_same=if_same)

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        check_keys(keys)
        await self._turn()
        return self._store.get(keys, self._clock.monotonic())

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        check_keys(keys)
        await self._turn()
        return self._store.delete(keys, self._clock.monotonic(), if_value=if_value)

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        check_keys([key])
        check_ttl(ttl)
        await self._turn()
        return self._store.incr(key, self._clock.monotonic(), by=by, ttl=ttl)

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        check_bucket(bucket, rate=rate, capacity=capacity)
        await self._turn()
        return self._store.take(bucket, self._clock.monotonic(), rate=rate, capacity=capacity)

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        check_prefix(prefix)
        await self._turn()
        return self._store.scan(prefix, self._clock.monotonic())


if TYPE_CHECKING:
    _coordination: Callable[[DriverConfig, Callable[[], Awaitable[None]]], Coordination] = MemoryCoordination
