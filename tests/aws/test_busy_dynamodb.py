"""What is left undone is asked again, after a pause; what was done without an answer is not done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from asyncq._clock import new_id, system_environment
from asyncq.driver import ChordOpening, ChordPart, DriverConfig, Fact, StoredResult
from asyncq.errors import BackendConnectionError, BackendError
from asyncq.protocol import ResultRecord, SavedGroup, encode_group, encode_part, encode_result
from asyncq_backends.dynamodb import DynamoBackend
from aws.busy_dynamodb import BusyDynamo
from aws.moto_server import MotoServer
from waiting import PATIENCE

#: Every call that the backend makes once its tables are there.
ACTIONS = (
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "TransactWriteItems",
    "UpdateItem",
)


@pytest.fixture
async def busy(moto: MotoServer) -> AsyncIterator[BusyDynamo]:
    async with BusyDynamo(moto.endpoint) as busy:
        yield busy


@pytest.fixture
async def backend(busy: BusyDynamo) -> AsyncIterator[DynamoBackend]:
    url = f"dynamodb://testing:testing@127.0.0.1:{busy.port}/busy-{new_id()[:8]}"
    backend = DynamoBackend(DriverConfig(url=url, app="tests", environment=system_environment(), timeout=PATIENCE))
    try:
        await backend.open()
        await backend.coordination.get(["any"])  # makes the table of the facts
        busy.requests.clear()
        yield backend
    finally:
        await backend.close()


def result(task_id: str, value: object = None) -> StoredResult:
    record = encode_result(ResultRecord(task_id=task_id, status="SUCCESS", result=value))
    return StoredResult(task_id=task_id, record=record, status="SUCCESS")


def part(index: int, expires: float | None = 60.0) -> ChordPart:
    member = encode_part(f"task-{index}", "SUCCESS", index)
    return ChordPart(group_id="g", task_id=f"task-{index}", index=index, member=member, body=b"{}", expires=expires)


def opening(size: int, expires: float | None = 60.0) -> ChordOpening:
    saved = encode_group(SavedGroup(group_id="g", members=[f"task-{number}" for number in range(size)]))
    return ChordOpening(group_id="g", size=size, saved=saved, expires=expires)


async def test_what_a_batch_leaves_undone_is_asked_again(backend: DynamoBackend, busy: BusyDynamo) -> None:
    ids = [f"task-{number}" for number in range(40)]
    stored = [result(task_id) for task_id in ids]
    await backend.store(stored)
    busy.members = 10
    assert await backend.get([*ids, "nobody"]) == [*(each.record for each in stored), None]
    assert busy.requests["BatchGetItem"] == 5
    await backend.coordination.put([Fact(key=task_id, value=b"1", ttl=60) for task_id in ids])
    assert busy.requests["BatchWriteItem"] == 5  # of 25 and of 15 members
    assert len(await backend.coordination.scan("task-")) == 40
    await backend.forget(ids)
    busy.members = None
    assert await backend.get(ids) == [None] * 40


@pytest.mark.parametrize("action", ["BatchGetItem", "BatchWriteItem"])
async def test_what_is_never_done_is_told_in_time(backend: DynamoBackend, busy: BusyDynamo, action: str) -> None:
    backend._link.timeout = 2.0
    busy.members = 0
    with pytest.raises(BackendConnectionError, match="leaves 2 items undone"):
        await (backend.get if action == "BatchGetItem" else backend.forget)(["a", "b"])
    assert 2 <= busy.requests[action] <= 7  # the pauses grow


async def test_a_throttled_call_is_made_again(backend: DynamoBackend, busy: BusyDynamo) -> None:
    for action in ACTIONS:
        busy.throttled[action] = 2
    assert await backend.coordination.put([Fact(key="k", value=b"v", ttl=60)], if_absent=True) == [True]
    assert await backend.coordination.incr("count", ttl=60) == 1
    assert await backend.coordination.delete(["k"]) == 1
    await use(backend)
    assert busy.throttled.total() == 0


async def test_what_may_be_done_twice_is_asked_again_when_the_server_fails(
    backend: DynamoBackend, busy: BusyDynamo
) -> None:
    for action in ACTIONS:
        busy.failing[action] = 2
    await use(backend)
    assert busy.failing.total() == 0


async def test_what_may_not_be_done_twice_is_told_when_the_server_fails(
    backend: DynamoBackend, busy: BusyDynamo
) -> None:
    busy.failing["UpdateItem"] = 1
    with pytest.raises(BackendConnectionError, match="does not serve UpdateItem"):
        await backend.coordination.incr("count", ttl=60)


async def use(backend: DynamoBackend) -> None:
    """Results, facts and a chord, without what may not be done twice."""
    await backend.chords.open([opening(2)])
    assert await backend.store([result("task-0"), result("task-1")]) == [True, True]
    assert None not in await backend.get(["task-0", "task-1"])
    assert await backend.coordination.scan("nothing") == []
    (claim,) = await backend.chords.join([part(0), part(1)])
    await backend.chords.close(claim)
    await backend.forget(["task-0", "task-1"])


async def test_what_was_done_without_an_answer_counts_once(backend: DynamoBackend, busy: BusyDynamo) -> None:
    busy.silent.update({"PutItem": 1, "TransactWriteItems": 1, "BatchWriteItem": 1})
    assert await backend.store([result("task-0")]) == [True]
    await backend.chords.open([opening(2)])
    assert await backend.chords.join([part(0)]) == []
    (claim,) = await backend.chords.join([part(1)])
    assert busy.silent.total() == 0
    busy.silent["UpdateItem"] = 1
    await backend.chords.close(claim)
    assert await backend.chords.overdue(10) == []


async def test_of_a_chord_that_lives_for_ever_nothing_is_left_behind_a_lost_answer(
    backend: DynamoBackend, busy: BusyDynamo
) -> None:
    await backend.chords.open([opening(2, expires=None)])
    (claim,) = await backend.chords.join([part(0, expires=None), part(1, expires=None)])
    busy.silent["UpdateItem"] = 1
    await backend.chords.close(claim)
    parts = backend.chords.members(replace(claim, saved=None))
    assert [page async for page in parts if page] == []


async def test_who_waits_for_a_result_is_told_that_reading_is_denied(backend: DynamoBackend, busy: BusyDynamo) -> None:
    busy.denied.add("BatchGetItem")
    async with backend.watch(["task-0"]) as changes, asyncio.timeout(PATIENCE):
        with pytest.raises(BackendError, match="dynamodb:BatchGetItem"):
            await anext(aiter(changes))


async def test_a_table_that_does_not_get_ready_is_named(
    busy: BusyDynamo, monkeypatch: pytest.MonkeyPatch, moto: MotoServer
) -> None:
    monkeypatch.setattr("asyncq_backends.dynamodb.table._PATIENCE", 0.0)
    busy.table_status = "DELETING"
    url = f"dynamodb://testing:testing@127.0.0.1:{busy.port}/leaving"
    backend = DynamoBackend(DriverConfig(url=url, app="tests", environment=system_environment(), timeout=PATIENCE))
    with pytest.raises(BackendConnectionError, match=r"'leaving'.*DELETING"):
        await backend.open()
    await backend.close()
