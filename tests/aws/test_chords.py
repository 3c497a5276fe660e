"""Chords in DynamoDB beside Celery: its items, its count, and whoever completes one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from celery import Celery, chord
from msgspec.structs import replace
from redis import Redis

from asyncq._clock import new_id, system_environment
from asyncq.driver import ChordClaim, ChordOpening, ChordPart, DriverConfig, Joining, StoredResult
from asyncq.protocol import (
    ResultRecord,
    SavedGroup,
    TaskMessage,
    decode_envelope,
    decode_part,
    decode_task,
    encode_group,
    encode_part,
    encode_result,
)
from asyncq_backends.dynamodb import DynamoBackend
from aws.moto_server import MotoServer
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from servers import RedisServer
from waiting import PATIENCE, until

#: boto3's clients have no types.
Client = Any

BODY = b'{"body": {}}'


@pytest.fixture
def table() -> str:
    return f"chords-{new_id()[:8]}"


@pytest.fixture
def client(moto: MotoServer) -> Iterator[Client]:
    client: Client = boto3.client("dynamodb", endpoint_url=moto.endpoint, region_name="us-east-1")
    yield client
    client.close()


@asynccontextmanager
async def opened(moto: MotoServer, table: str, query: str = "", **options: Any) -> AsyncGenerator[DynamoBackend]:
    url = f"dynamodb://testing:testing@127.0.0.1:{moto.port}/{table}{query}"
    backend = DynamoBackend(DriverConfig(url=url, app="tests", environment=system_environment(), options=options))
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()


def opening(group: str, *task_ids: str, saved: bool = True) -> ChordOpening:
    document = encode_group(SavedGroup(group_id=group, members=task_ids)) if saved else None
    return ChordOpening(group_id=group, size=len(task_ids), saved=document, expires=3600.0)


def part(group: str, index: int, task_id: str) -> ChordPart:
    member = encode_part(task_id, "SUCCESS", index)
    return ChordPart(group_id=group, task_id=task_id, index=index, member=member, body=BODY, expires=3600.0)


async def finish(backend: DynamoBackend, *task_ids: str) -> list[bytes]:
    """Store their results, each its own id."""
    records = [encode_result(ResultRecord(task_id=task_id, status="SUCCESS", result=task_id)) for task_id in task_ids]
    await backend.store(
        [
            StoredResult(task_id=task_id, record=record, status="SUCCESS")
            for task_id, record in zip(task_ids, records, strict=True)
        ]
    )
    return records


def celery_counts(client: Client, table: str, group: str) -> int:
    """What a Celery worker does for a part; returns what it is told."""
    answer = client.update_item(
        TableName=table,
        Key={"id": {"S": str(f"chord-unlock-{group}".encode())}},
        UpdateExpression="set chord_count = chord_count + :num",
        ExpressionAttributeValues={":num": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["chord_count"]["N"])


def celery_opens(client: Client, table: str, group: str, *task_ids: str) -> None:
    """What a Celery client does before it sends a header."""
    saved = encode_group(SavedGroup(group_id=group, members=task_ids))
    now = {"N": "1795255797.87"}
    counter = {"id": {"S": str(f"chord-unlock-{group}".encode())}, "chord_count": {"N": "0"}, "timestamp": now}
    header = {"id": {"S": str(f"celery-taskset-meta-{group}".encode())}, "result": {"B": saved}, "timestamp": now}
    for item in (counter, header):
        client.put_item(TableName=table, Item=item)


def items(client: Client, table: str) -> dict[str, dict[str, Any]]:
    found = {item["id"]["S"]: item for item in client.scan(TableName=table)["Items"]}
    return {key: item for key, item in found.items() if "task-meta" not in key}


async def members(backend: DynamoBackend, claim: ChordClaim) -> list[bytes]:
    return [member async for batch in backend.chords.members(claim) for member in batch]


async def test_a_chord_half_done_has_celerys_items(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table, "?ttl_seconds=600") as backend:
        await backend.chords.open([opening("g", "a", "b")])
        assert await backend.chords.join([part("g", 0, "a")]) == []

    found = items(client, table)
    assert set(found) == {"b'chord-unlock-g'", "b'celery-taskset-meta-g'"}
    counter, header = found["b'chord-unlock-g'"], found["b'celery-taskset-meta-g'"]
    assert counter["chord_count"] == {"N": "1"}
    assert "timestamp" in counter
    assert set(header) == {"id", "result", "timestamp", "ttl"}
    assert header["result"]["B"] == b'{"result": [["g", null], [[["a", null], null], [["b", null], null]]]}'
    assert 600 <= int(header["ttl"]["N"]) - float(header["timestamp"]["N"]) <= 601


async def test_what_celery_completes_is_celerys_to_end(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table) as backend:
        await backend.chords.open([opening("g", "a", "b")])
        assert await backend.chords.join([part("g", 0, "a")]) == []

        assert celery_counts(client, table, "g") == 2

        assert await backend.chords.join([part("g", 0, "a")]) == []
        assert await backend.chords.overdue(10) == []


async def test_what_is_completed_here_is_made_of_records(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table) as backend:
        await backend.chords.open([opening("g", "a", "b", "c")])
        records = await finish(backend, "a", "b", "c")
        assert celery_counts(client, table, "g") == 1
        assert await backend.chords.join([part("g", 2, "c"), part("g", 2, "c")]) == []

        (claim,) = await backend.chords.join([part("g", 1, "b")])

        assert claim.body == BODY
        assert await members(backend, claim) == records
        await backend.chords.close(claim)
        assert items(client, table) == {}
        assert await backend.chords.join([part("g", 1, "b")]) == []


async def test_a_chord_that_a_celery_client_opened_has_the_size_of_its_header(
    moto: MotoServer, table: str, client: Client
) -> None:
    async with opened(moto, table) as backend:
        celery_opens(client, table, "g", "a", "b")
        records = await finish(backend, "a", "b")
        assert await backend.chords.join([part("g", 1, "b")]) == []

        (claim,) = await backend.chords.join([part("g", 0, "a"), part("g", 1, "b")])

        assert await members(backend, claim) == records


async def test_a_header_too_large_for_an_item_is_joined_by_its_parts(
    moto: MotoServer, table: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    task_ids = [f"{'x' * 300_000}-{number}" for number in range(2)]
    async with opened(moto, table) as backend:
        await backend.chords.open([opening("g", *task_ids)])
        assert "too many members" in caplog.text

        (claim,) = await backend.chords.join([part("g", 0, "a"), part("g", 1, "b")])

        assert claim.saved is None
        assert await members(backend, claim) == [part("g", 0, "a").member, part("g", 1, "b").member]


async def test_a_body_too_large_for_an_item_is_the_last_parts(moto: MotoServer, table: str) -> None:
    """Nobody else knows it: a part that comes again ends the chord of a worker that has died."""
    body = b'{"body": "%s"}' % (b"x" * 450_000)
    async with opened(moto, table) as backend:
        await backend.chords.open([opening("g", "a", "b")])
        first, last = (replace(part("g", index, name), body=body) for index, name in enumerate("ab"))
        assert await backend.chords.join([first]) == []
        (claim,) = await backend.chords.join([last], lease=0.01)
        assert claim.body == body
        await asyncio.sleep(0.02)
        assert await backend.chords.overdue(10) == []
        (again,) = await backend.chords.join([last])
        assert again.body == body
        await backend.chords.close(again)


async def test_without_the_shared_table_there_are_no_chords(moto: MotoServer, table: str) -> None:
    async with opened(moto, table, facts_table=False) as backend:
        assert not isinstance(backend, Joining)


# -- a real worker -----------------------------------------------------------------------------------------------


class CeleryOnDynamo(CeleryClient):
    """A Celery client whose backend is no Redis."""

    def _close(self, app: Celery) -> None:
        self._results.clear()
        app.close()


async def _send(client: CeleryClient, header: Sequence[tuple[str, list[Any], str]]) -> str:
    """`header` is name, arguments and queue of each member. Returns the id of the body, which echoes what it gets."""

    def send(app: Celery) -> str:
        members = [app.signature(name, args, queue=queue) for name, args, queue in header]
        return chord(members, app=app)(app.signature("interop.echo", queue="celery")).id

    return await client.run(send)


def _take(database: Any, queue: str) -> TaskMessage:
    _, raw = database.brpop(queue, timeout=PATIENCE)
    return decode_task(decode_envelope(raw))


async def _end(backend: DynamoBackend, message: TaskMessage, value: object) -> list[ChordClaim]:
    """What a worker does at the end of a header task."""
    assert message.group is not None
    record = encode_result(ResultRecord(task_id=message.id, status="SUCCESS", result=value, group_id=message.group))
    await backend.store([StoredResult(task_id=message.id, record=record, status="SUCCESS")])
    return await backend.chords.join(
        [
            ChordPart(
                group_id=message.group,
                task_id=message.id,
                index=message.group_index,
                member=encode_part(message.id, "SUCCESS", value),
                body=json.dumps({"body": message.chord}).encode(),
                expires=3600.0,
            )
        ]
    )


@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_headers_are_shared_with_a_celery_worker(
    moto: MotoServer, table: str, client: Client, tmp_path: Path
) -> None:
    url = f"dynamodb://testing:testing@127.0.0.1:{moto.port}/{table}"
    with RedisServer() as server, Redis.from_url(server.url()) as database:
        async with (
            opened(moto, table) as backend,
            CeleryWorker(server.url(), tmp_path, backend=url) as worker,
            CeleryOnDynamo(server.url(), backend=url) as celery,
        ):
            gate = worker.gate("last")
            theirs = await _send(
                celery, [("interop.add", [1, 2], "ours"), ("interop.hold", [str(gate.path)], "celery")]
            )
            message = _take(database, "ours")
            assert await _end(backend, message, 3) == []
            assert await _end(backend, message, 3) == []  # delivered twice
            gate.open()
            assert await celery.get(theirs, timeout=60) == [[[3, "celery"]], {}]

            ours = await _send(celery, [("interop.add", [1, 2], "ours"), ("interop.add", [3, 4], "celery")])
            message = _take(database, "ours")
            await until(lambda: items(client, table)[f"b'chord-unlock-{message.group}'"]["chord_count"] == {"N": "1"})
            (claim,) = await _end(backend, message, 3)
            values = [decode_part(member).result for member in await members(backend, claim)]
            body = json.loads(claim.body)["body"]
            await celery.run(lambda app: app.signature(body).delay(values) and None)
            await backend.chords.close(claim)
            assert await celery.get(ours, timeout=60) == [[[3, 7]], {}]
