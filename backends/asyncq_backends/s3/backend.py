"""Records of tasks in an S3 bucket (`asyncq.driver.ResultBackend`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from asyncq.driver import BackendCapabilities, DriverConfig, PolicyStatement, Role, StoredResult
from asyncq.errors import ConfigurationError
from asyncq_backends._reader import Reader
from asyncq_backends._records import status_of
from asyncq_backends._storing import LastVersions, store_each
from asyncq_brokers._clients.aws import BACKEND_ERRORS, AwsLink, Finisher, Refusal, allow, partition, together

from .options import read_config

__all__ = ["S3Backend"]

#: What one request can put.
_CAPABILITIES = BackendCapabilities(shared=True, push=False, max_record_bytes=5 * 1024**3, billed=True)

#: Objects that are read or written at the same time.
_AT_A_TIME = 16

#: Keys of one DeleteObjects.
_DELETED = 1000

#: Metadata: UNIX seconds after which the object is no result any more. A lifecycle rule of the bucket deletes it.
_EXPIRES = "asyncq-expires"

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
#: Another writer was there between our look and our write, or at the same time.
_CONFLICT = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})


class _Found(Struct):
    """An object."""

    record: bytes
    #: Names this version of it.
    etag: str
    expired: bool


class S3Backend:
    """Results under Celery's keys, an object each. Whoever waits for one is told by looking."""

    def __init__(self, config: DriverConfig) -> None:
        self._account, self._options = read_config(config)
        self._clock = config.environment.clock
        self._link = AwsLink(
            self._account, errors=BACKEND_ERRORS, environment=config.environment, timeout=config.timeout
        )
        self._prefix = f"{self._options.prefix}celery-task-meta-"
        self._groups = f"{self._options.prefix}celery-taskset-meta-"
        self._finisher = Finisher(BACKEND_ERRORS)
        self._reader = Reader(self._get)
        self._calling = asyncio.Semaphore(_AT_A_TIME)
        #: A version is the object's ETag.
        self._written = LastVersions()

    @property
    def capabilities(self) -> BackendCapabilities:
        return _CAPABILITIES

    @property
    def address(self) -> str:
        return f"s3://{self._options.bucket}/{self._options.prefix}"

    @property
    def followed(self) -> int:
        """How many tasks are being watched."""
        return self._reader.followed

    async def open(self) -> None:
        try:
            await self._link.call("head_bucket", harmless=True, Bucket=self._options.bucket)
        except Refusal as refusal:
            if refusal.code in _MISSING:
                raise ConfigurationError(f"there is no bucket {self._options.bucket!r}: create it") from refusal
            raise self._link.translated(refusal, starting=True) from refusal

    async def close(self) -> None:
        await self._reader.close()
        await self._finisher.close(0.5)
        await self._link.close()

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if not results:
            return []
        return await self._finisher.run(store_each(results, self._store_one, places=self._calling))

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        return await self._finisher.run(self._get(task_ids)) if task_ids else []

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        with self._reader.follow(task_ids) as changes:
            yield changes

    async def forget(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._finisher.run(self._forget(task_ids))

    async def save_group(self, group_id: str, saved: bytes, *, expires: float | None = None) -> None:
        await self._link.ask(
            "put_object",
            harmless=True,
            Bucket=self._options.bucket,
            Key=self._groups + group_id,
            Body=saved,
            Metadata=self._metadata(expires),
        )

    async def saved_group(self, group_id: str) -> bytes | None:
        found = await self._finisher.run(self._read(self._groups + group_id))
        return None if found is None or found.expired else found.record

    async def forget_group(self, group_id: str) -> None:
        await self._finisher.run(self._delete([self._groups + group_id]))

    def policy(self, role: Role, queues: Sequence[str]) -> list[PolicyStatement]:  # noqa: ARG002 - one bucket for all
        bucket = f"arn:{partition(self._account.region)}:s3:::{self._options.bucket}"
        objects = f"{bucket}/{self._options.prefix}"
        statements = [
            # Without ListBucket S3 says "denied" of an object that isn't there.
            allow(self._account, {"ListBucket"}, [bucket]),
            allow(self._account, {"DeleteObject", "GetObject"}, [f"{objects}*"]),
        ]
        # A producer writes what `GroupResult.save` keeps, a worker results too.
        written = f"{objects}*" if role == "worker" else f"{bucket}/{self._groups}*"
        return [*statements, allow(self._account, {"PutObject"}, [written])]

    # -- each to its end

    async def _store_one(self, result: StoredResult) -> bool:
        """Write a record unless a SUCCESS stands there; what stands there must be what was looked at."""
        seen = self._written.take(result.task_id)
        while True:
            condition: dict[str, Any] = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
            try:
                answer = await self._link.call(
                    "put_object",
                    Bucket=self._options.bucket,
                    Key=self._prefix + result.task_id,
                    Body=result.record,
                    Metadata=self._metadata(result.expires),
                    **condition,
                )
            except Refusal as refusal:
                # IfMatch finds nothing where the object was deleted meanwhile.
                if refusal.code not in _CONFLICT | _MISSING:
                    raise self._link.translated(refusal) from refusal
                found = await self._read(self._prefix + result.task_id)
                if found is not None and not found.expired and status_of(found.record) == "SUCCESS":
                    return False
                seen = None if found is None else found.etag
            else:
                self._written.note(result, str(answer["ETag"]))
                return True

    async def _get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        async def get(task_id: str) -> bytes | None:
            async with self._calling:
                found = await self._read(self._prefix + task_id)
            return None if found is None or found.expired else found.record

        unique = list(dict.fromkeys(task_ids))
        records = dict(zip(unique, await together(map(get, unique)), strict=True))
        return [records[task_id] for task_id in task_ids]

    async def _read(self, key: str) -> _Found | None:
        try:
            answer = await self._link.call("get_object", harmless=True, Bucket=self._options.bucket, Key=key)
        except Refusal as refusal:
            if refusal.code in _MISSING:
                return None
            raise self._link.translated(refusal) from refusal
        record = await self._link.download(answer)
        expires = float(answer.get("Metadata", {}).get(_EXPIRES, "inf"))
        return _Found(record, str(answer["ETag"]), expired=expires <= self._clock.wall())

    async def _forget(self, task_ids: Sequence[str]) -> None:
        self._written.forget(task_ids)
        await self._delete([self._prefix + task_id for task_id in dict.fromkeys(task_ids)])

    async def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED):
            await self._link.ask(
                "delete_objects",
                harmless=True,
                Bucket=self._options.bucket,
                Delete={"Objects": [{"Key": key} for key in keys[start : start + _DELETED]], "Quiet": True},
            )

    def _metadata(self, expires: float | None) -> dict[str, str]:
        return {} if expires is None else {_EXPIRES: repr(self._clock.wall() + expires)}
