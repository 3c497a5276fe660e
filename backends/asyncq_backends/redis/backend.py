"""Records of tasks on Redis (`asyncq.driver.ResultBackend`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1

from asyncq.driver import BackendCapabilities, DriverConfig, StoredResult
from asyncq_backends._records import status_of
from asyncq_brokers._clients.redis import (
    BACKEND_ERRORS,
    Link,
    RedisCoordination,
    check_server,
    load_scripts,
    read_backend_config,
)

from .chords import RedisChords
from .listener import Listener

__all__ = ["RedisBackend"]

#: Records a script call: Redis serves nobody else meanwhile.
_BATCH = 500

_CAPABILITIES = BackendCapabilities(shared=True, push=True, max_record_bytes=512 * 1024 * 1024)

_STORE = load_scripts("asyncq_backends.redis")["store"]

#: What the script answers.
_STORED, _SUCCEEDED, _OPAQUE = 1, 0, 2


class RedisBackend:
    """Results on one database of a Redis server (6.2 or newer), under Celery's keys, told on Celery's channels."""

    def __init__(self, config: DriverConfig) -> None:
        self._endpoint, options = read_backend_config(config)
        self._prefix = f"{options.prefix}celery-task-meta-"
        self._groups = f"{options.prefix}celery-taskset-meta-"
        #: Never written: see the broker's scripts.
        self._none = f"{options.prefix}asyncq.none"
        environment = config.environment
        self._link = Link(self._endpoint, errors=BACKEND_ERRORS, clock=environment.clock, timeout=config.timeout)
        self.coordination = RedisCoordination(self._link, options.prefix)
        self.chords = RedisChords(
            self._link,
            prefix=options.prefix,
            ordered=options.result_chord_ordered,
            get=self.get,
            new_id=environment.new_id,
        )
        self._listener = Listener(
            self._endpoint, look=self.get, prefix=self._prefix, random=environment.random, timeout=config.timeout
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        return _CAPABILITIES

    @property
    def address(self) -> str:
        return self._endpoint.address

    @property
    def followed(self) -> int:
        """How many tasks are being watched."""
        return self._listener.followed

    async def open(self) -> None:
        await check_server(self._link)

    async def close(self) -> None:
        await self._listener.close()
        await self._link.close()

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        stored: list[bool] = []
        for start in range(0, len(results), _BATCH):
            stored += await self._store(results[start : start + _BATCH])
        return stored

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        if not task_ids:
            return []
        return await self._link.call("MGET", *map(self._key, task_ids))

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        with self._listener.follow(task_ids) as changes:
            yield changes

    async def forget(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._link.call("DEL", *map(self._key, task_ids))

    async def save_group(self, group_id: str, saved: bytes, *, expires: float | None = None) -> None:
        life = () if expires is None else ("PX", max(1, round(expires * 1000)))
        await self._link.call("SET", self._groups + group_id, saved, *life)

    async def saved_group(self, group_id: str) -> bytes | None:
        return await self._link.call("GET", self._groups + group_id)

    async def forget_group(self, group_id: str) -> None:
        await self._link.call("DEL", self._groups + group_id)

    def _key(self, task_id: str) -> str:
        return self._prefix + task_id

    async def _store(self, results: Sequence[StoredResult]) -> list[bool]:
        outcome = [False] * len(results)
        #: Positions that are to be stored -> SHA-1 of the value there that was decoded and found to be no SUCCESS.
        wanted = dict.fromkeys(range(len(results)), "")
        while wanted:
            keys = [self._key(results[position].task_id) for position in wanted]
            arguments: list[str | bytes] = []
            for position, seen in wanted.items():
                result = results[position]
                life = "" if result.expires is None else str(max(1, round(result.expires * 1000)))
                arguments += (result.record, life, seen)
            answers: list[int] = await self._link.run(_STORE, [self._none, *keys], arguments)
            opaque: list[int] = []
            for position, answer in zip(wanted, answers, strict=True):
                outcome[position] = answer == _STORED
                if answer == _OPAQUE:
                    opaque.append(position)
            wanted = await self._look(results, opaque)
        return outcome

    async def _look(self, results: Sequence[StoredResult], positions: Sequence[int]) -> dict[int, str]:
        """Decode what the script could not read. Returns the positions that have no SUCCESS, and what stands there.

        What can't be decoded here either (a pickle, a stranger's key) is taken for no SUCCESS, as Celery's own guard
        would: better a result too many than none for somebody who waits.
        """
        current = await self.get([results[position].task_id for position in positions])
        wanted: dict[int, str] = {}
        for position, value in zip(positions, current, strict=True):
            if value is None:
                wanted[position] = ""
            elif status_of(value) != "SUCCESS":
                wanted[position] = sha1(value, usedforsecurity=False).hexdigest()
        return wanted
