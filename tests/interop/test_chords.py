"""Chords whose header is run by a Celery worker in part, and in part handed in by the Redis backend."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from celery import Celery, chord
from redis import Redis

from asyncq._clock import system_environment
from asyncq.driver import ChordPart, DriverConfig, StoredResult
from asyncq.protocol import (
    ResultRecord,
    TaskMessage,
    decode_envelope,
    decode_part,
    decode_task,
    encode_part,
    encode_result,
)
from asyncq_backends.redis import RedisBackend
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from redis_kit import Client
from waiting import PATIENCE, until

pytestmark = pytest.mark.interop

#: The queue that no Celery worker serves.
OURS = "ours"


@pytest.fixture
async def client(celery_worker: CeleryWorker) -> AsyncIterator[CeleryClient]:
    async with CeleryClient(celery_worker.url) as client:
        yield client


@pytest.fixture
async def backend(celery_worker: CeleryWorker) -> AsyncIterator[RedisBackend]:
    backend = RedisBackend(DriverConfig(url=celery_worker.url, app="interop", environment=system_environment()))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def database(celery_worker: CeleryWorker) -> Any:
    with Redis.from_url(celery_worker.url) as client:
        yield client


async def send_chord(client: CeleryClient, worker: CeleryWorker, header: Sequence[tuple[str, list[Any], str]]) -> str:
    """`header` is name, arguments and queue of each member. Returns the id of the body, which echoes what it gets."""

    def send(app: Celery) -> str:
        members = [app.signature(name, args, queue=queue) for name, args, queue in header]
        return chord(members, app=app)(app.signature("interop.echo", queue=worker.queue)).id

    return await client.run(send)


def take_ours(database: Client, count: int) -> list[TaskMessage]:
    """The messages of the queue that Celery doesn't serve."""
    messages: list[TaskMessage] = []
    while len(messages) < count:
        _, raw = database.brpop(OURS, timeout=PATIENCE)
        messages.append(decode_task(decode_envelope(raw)))
    return messages


async def finish(backend: RedisBackend, message: TaskMessage, value: object) -> ChordPart:
    """Store the task's result; returns its part of the chord."""
    record = encode_result(ResultRecord(task_id=message.id, status="SUCCESS", result=value, group_id=message.group))
    await backend.store([StoredResult(task_id=message.id, record=record, status="SUCCESS", expires=86400.0)])
    assert message.group is not None
    return ChordPart(
        group_id=message.group,
        task_id=message.id,
        index=message.group_index,
        member=encode_part(message.id, "SUCCESS", value),
        body=json.dumps({"body": message.chord}).encode(),
        expires=86400.0,
    )


def state_of(database: Client, group: str) -> dict[str, int]:
    """What Redis still holds of a chord, and for how long."""
    return {name.decode(): database.ttl(name) for name in database.keys(f"celery-taskset-meta-{group}*")}


async def test_a_celery_worker_completes_what_was_handed_in_here(
    celery_worker: CeleryWorker, client: CeleryClient, backend: RedisBackend, database: Client
) -> None:
    gate = celery_worker.gate("chord-1")
    header = [
        ("interop.add", [10, 1], OURS),
        ("interop.hold", [str(gate.path)], celery_worker.queue),
        ("interop.add", [20, 1], OURS),
        ("interop.add", [30, 1], celery_worker.queue),
    ]
    body = await send_chord(client, celery_worker, header)
    first, second = take_ours(database, 2)

    parts = [await finish(backend, first, 11), await finish(backend, second, 21)]
    assert await backend.chords.join(parts) == []
    assert await backend.chords.join([parts[0]]) == []  # delivered twice
    gate.open()

    assert await client.get(body) == [[[11, "celery", 21, 31]], {}]
    group = parts[0].group_id
    await until(lambda: database.get(f"celery-taskset-meta-{group}.c") == b"done")
    assert await backend.chords.join(parts) == []
    (name,) = state_of(database, group)
    assert name == f"celery-taskset-meta-{group}.c"


async def test_what_a_celery_worker_began_is_completed_here(
    celery_worker: CeleryWorker, client: CeleryClient, backend: RedisBackend, database: Client
) -> None:
    header = [
        ("interop.add", [10, 1], celery_worker.queue),
        ("interop.add", [20, 1], OURS),
        ("interop.echo", ["é", {"a": [1.5, None]}], celery_worker.queue),
    ]
    body = await send_chord(client, celery_worker, header)
    (message,) = take_ours(database, 1)
    group = message.group
    assert group is not None
    await until(lambda: database.scard(f"celery-taskset-meta-{group}.d") == 2)
    theirs = [member for member, _ in database.zrange(f"celery-taskset-meta-{group}.j", 0, -1, withscores=True)]
    decoded = [decode_part(member) for member in theirs]
    assert [encode_part(each.task_id, each.state, each.result) for each in decoded] == theirs
    part = await finish(backend, message, 21)
    # A header task that Celery has run is delivered once more, to a worker of ours.
    again = ChordPart(
        group_id=group, task_id=decoded[0].task_id, index=0, member=theirs[0], body=part.body, expires=86400.0
    )
    assert await backend.chords.join([again]) == []

    (claim,) = await backend.chords.join([part, again])

    values = [decode_part(member).result async for batch in backend.chords.members(claim) for member in batch]
    assert values == [11, 21, [["é", {"a": [1.5, None]}], {}]]
    assert await backend.chords.renew(claim)
    await client.run(lambda app: app.signature(json.loads(claim.body)["body"]).delay(values) and None)
    await backend.chords.close(claim)
    assert await client.get(body) == [[values], {}]
    assert list(state_of(database, group)) == [f"celery-taskset-meta-{group}.c"]
    assert 280 <= database.ttl(f"celery-taskset-meta-{group}.c") <= 300
    assert database.zscore("asyncq.chords", group) is None


async def test_a_header_that_fails_here_fails_the_chord_there(
    celery_worker: CeleryWorker, client: CeleryClient, backend: RedisBackend, database: Client
) -> None:
    gate = celery_worker.gate("chord-3")
    header = [("interop.add", [1, 1], OURS), ("interop.hold", [str(gate.path)], celery_worker.queue)]
    body = await send_chord(client, celery_worker, header)
    (message,) = take_ours(database, 1)
    failure = {"exc_type": "ValueError", "exc_message": ["boom", 1], "exc_module": "builtins"}
    assert message.group is not None
    part = ChordPart(
        group_id=message.group,
        task_id=message.id,
        index=message.group_index,
        member=encode_part(message.id, "FAILURE", failure),
        body=b"{}",
        expires=86400.0,
    )
    assert await backend.chords.join([part]) == []

    gate.open()

    with pytest.raises(Exception, match=rf"Dependency {message.id} raised ValueError\('boom', 1\)"):
        await client.get(body)
    await until(lambda: not database.exists(f"celery-taskset-meta-{message.group}.s"))
    assert await backend.chords.join([part]) == []
    assert await backend.chords.overdue(10) == []
