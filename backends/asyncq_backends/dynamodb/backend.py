"""Records of tasks in a DynamoDB table (`asyncq.driver.ResultBackend`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asyncq.driver import BackendCapabilities, DriverConfig, PolicyStatement, Role, StoredResult
from asyncq.errors import BackendConnectionError, BackendError
from asyncq_backends._reader import Reader
from asyncq_backends._records import status_of
from asyncq_backends._storing import LastVersions, store_each
from asyncq_brokers._clients.aws import BACKEND_ERRORS, AwsLink, Finisher, Refusal, allow, arn

from .batches import read_items, write_items
from .chords import DynamoChords
from .coordination import DynamoCoordination
from .items import MAX_RECORD_BYTES, Item, item_id, record_item, record_of, result_item
from .options import read_config
from .table import SharedTable, Table

__all__ = ["DynamoBackend"]

_CAPABILITIES = BackendCapabilities(shared=True, push=False, max_record_bytes=MAX_RECORD_BYTES, billed=True)

#: Items that are written at the same time.
_AT_A_TIME = 16

_CONDITION_FAILED = "ConditionalCheckFailedException"

_NAMES = {"#id": "id", "#ttl": "ttl", "#timestamp": "timestamp"}


class DynamoBackend:
    """Results under Celery's keys. Whoever waits for one is told by looking."""

    def __init__(self, config: DriverConfig) -> None:
        self._account, self._options = read_config(config)
        self._environment = config.environment
        self._clock = config.environment.clock
        self._link = AwsLink(
            self._account, errors=BACKEND_ERRORS, environment=config.environment, timeout=config.timeout
        )
        options = self._options
        units = None
        if options.read_units is not None and options.write_units is not None:
            units = options.read_units, options.write_units
        expires = None if options.ttl_seconds is None else options.ttl_seconds >= 0
        self._table = Table(name=options.table, key="id", units=units, expires=expires)
        self._prefix = f"{options.prefix}celery-task-meta-"
        self._groups = f"{options.prefix}celery-taskset-meta-"
        self._finisher = Finisher(BACKEND_ERRORS)
        if options.facts_table is not None:  # else it is neither `Coordinating` nor `Joining`
            shared = SharedTable(self._link, options.facts_table)
            self.coordination = DynamoCoordination(self._link, self._environment, table=shared, prefix=options.prefix)
            self.chords = DynamoChords(
                self._link, self._environment, options=options, shared=shared, get=self.get, finisher=self._finisher
            )
        self._reader = Reader(self._look)
        self._writing = asyncio.Semaphore(_AT_A_TIME)
        #: A version is the item's `timestamp`.
        self._written = LastVersions()

    @property
    def capabilities(self) -> BackendCapabilities:
        return _CAPABILITIES

    @property
    def address(self) -> str:
        return f"{self._account.address}/{self._options.table}"

    @property
    def followed(self) -> int:
        """How many tasks are being watched."""
        return self._reader.followed

    @property
    def requests(self) -> int:
        """How many requests went out so far."""
        return self._link.requests

    async def open(self) -> None:
        await self._table.ensure(self._link)

    async def close(self) -> None:
        await self._reader.close()
        await self._finisher.close(0.5)
        await self._link.close()

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        if not results:
            return []
        return await self._finisher.run(store_each(results, self._store_one, places=self._writing))

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        return await self._finisher.run(self._get(task_ids, consistent=True)) if task_ids else []

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        with self._reader.follow(task_ids) as changes:
            yield changes

    async def forget(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._finisher.run(self._forget(task_ids))

    async def save_group(self, group_id: str, saved: bytes, *, expires: float | None = None) -> None:
        item = record_item(self._groups + group_id, saved, expires, self._clock.wall(), self._options.ttl_seconds)
        await self._finisher.run(self._write([{"PutRequest": {"Item": item}}]))

    async def saved_group(self, group_id: str) -> bytes | None:
        items = await self._finisher.run(self._read([{"id": item_id(self._groups + group_id)}], consistent=True))
        return record_of(items[0], self._clock.wall()) if items else None

    async def forget_group(self, group_id: str) -> None:
        await self._finisher.run(self._write([{"DeleteRequest": {"Key": {"id": item_id(self._groups + group_id)}}}]))

    def policy(self, role: Role, queues: Sequence[str]) -> list[PolicyStatement]:  # noqa: ARG002 - one table for all
        tables = {"CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTimeToLive"}
        facts = {"BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"}
        # Chords: the saved header and the count of its parts stand among the results, as Celery has them.
        results = {"BatchGetItem", "BatchWriteItem", "UpdateItem"}
        if role == "worker":
            results |= {"GetItem", "PutItem"}
        statements = [allow(self._account, tables | results, [arn(self._account, f"table/{self._options.table}")])]
        if self._options.facts_table is not None:
            shared = arn(self._account, f"table/{self._options.facts_table}")
            statements.append(allow(self._account, tables | facts, [shared]))
        return statements

    # -- each to its end

    async def _store_one(self, result: StoredResult) -> bool:
        """Write a record unless a SUCCESS stands there. Celery's items say in their record alone what they are."""
        key = self._prefix + result.task_id
        seen = self._written.take(result.task_id)
        overwritten = None if seen is None else _with_timestamp(seen)
        deadline = asyncio.get_running_loop().time() + self._link.timeout
        while True:
            now = self._clock.wall()
            item = result_item(key, result, now, self._options.ttl_seconds)
            condition = "attribute_not_exists(#id) OR #ttl <= :now"
            values: Item = {":now": {"N": str(int(now))}}
            if overwritten is not None:
                condition += f" OR {overwritten[0]}"
                values |= overwritten[1]
            names = {name: attribute for name, attribute in _NAMES.items() if name in condition}
            try:
                await self._link.call(
                    "put_item",
                    harmless=True,
                    TableName=self._options.table,
                    Item=item,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except Refusal as refusal:
                found = self._standing(refusal)
                if status_of(record_of(found, now)) == "SUCCESS":
                    # Our own, if only the answer to the first try was lost.
                    return found.get("timestamp") == item["timestamp"]
                overwritten = _with_timestamp(found.get("timestamp", {}).get("N"))
                if asyncio.get_running_loop().time() > deadline:
                    text = f"others write the result of task {result.task_id} in {self.address} all the time"
                    raise BackendConnectionError(text) from refusal
            else:
                self._written.note(result, item["timestamp"]["N"])
                return True

    def _standing(self, refusal: Refusal) -> Item:
        """The item that a condition failed at. Raises the refusal when that is not what it is about."""
        if refusal.code != _CONDITION_FAILED:
            if refusal.code == "ValidationException" and "size" in refusal.text:
                raise BackendError(f"{self.address} refuses the record: {refusal.text}") from refusal
            raise self._link.translated(refusal) from refusal
        return refusal.details.get("Item", {})

    async def _look(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """For waiters: half the price, and a moment behind."""
        return await self._get(task_ids, consistent=False)

    async def _get(self, task_ids: Sequence[str], *, consistent: bool) -> list[bytes | None]:
        keys = {task_id: item_id(self._prefix + task_id) for task_id in task_ids}
        items = await self._read([{"id": key} for key in keys.values()], consistent=consistent)
        now = self._clock.wall()
        found: dict[Any, bytes | None] = {item["id"]["S"]: record_of(item, now) for item in items}
        return [found.get(keys[task_id]["S"]) for task_id in task_ids]

    async def _forget(self, task_ids: Sequence[str]) -> None:
        self._written.forget(task_ids)
        keys = [{"id": item_id(self._prefix + task_id)} for task_id in dict.fromkeys(task_ids)]
        await self._write([{"DeleteRequest": {"Key": key}} for key in keys])

    async def _read(self, keys: Sequence[Item], *, consistent: bool) -> list[Item]:
        return await read_items(self._link, self._environment.random, self._options.table, keys, consistent=consistent)

    async def _write(self, requests: Sequence[dict[str, Any]]) -> None:
        await write_items(self._link, self._environment.random, self._options.table, requests)


def _with_timestamp(seen: str | None) -> tuple[str, Item]:
    """What tells the record that was looked at: a condition, and its values. A stranger's may have no time."""
    return (
        ("#timestamp = :seen", {":seen": {"N": seen}}) if seen is not None else ("attribute_not_exists(#timestamp)", {})
    )
