"""Result records as Celery writes, announces and reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq._clock import new_id
from asyncq.driver import StoredResult
from asyncq.errors import BackendConnectionError
from asyncq.protocol import ResultRecord, decode_result, encode_result
from asyncq_backends.redis import RedisBackend
from golden import load, stored_records
from redis_kit import BOUND, Client, NewBackend
from waiting import until

FOREIGN_SUCCESSES = [
    "success",
    "success-none",
    "success-compressed",
    "success-msgpack",
    "success-yaml",
    "success-result-extended",
]


def record(task_id: str, status: str = "SUCCESS", value: object = None) -> StoredResult:
    encoded = encode_result(ResultRecord(task_id=task_id, status=status, result=value))
    return StoredResult(task_id=task_id, record=encoded, status=status, expires=3600)


def key(task_id: str) -> str:
    return f"celery-task-meta-{task_id}"


# -- storing -------------------------------------------------------------------------------------------------


async def test_a_record_stands_under_celerys_key_and_is_published_on_its_channel(
    backend: RedisBackend, client: Client
) -> None:
    stored = record("t-1", value=3)
    with client.pubsub(ignore_subscribe_messages=False) as listener:
        listener.subscribe(key("t-1"))
        listener.get_message(timeout=5)

        assert await backend.store([stored]) == [True]

        message = listener.get_message(timeout=5)
    assert client.get(key("t-1")) == message["data"] == stored.record
    assert message["channel"] == key("t-1").encode()
    assert 3590 < client.ttl(key("t-1")) <= 3600


async def test_none_expires_never_and_a_refused_record_is_not_published(backend: RedisBackend, client: Client) -> None:
    done = StoredResult(task_id="t-1", record=record("t-1").record, status="SUCCESS", expires=None)
    await backend.store([done])
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(key("t-1"))
        listener.get_message(timeout=1)

        assert await backend.store([record("t-1", "FAILURE")]) == [False]

        assert listener.get_message(timeout=0.1) is None
    assert client.ttl(key("t-1")) == -1


@pytest.mark.parametrize(("prefix", "stored_key"), [("myapp", "myapp_"), ("myapp:", "myapp:")])
async def test_the_prefix_is_celerys(new_backend: NewBackend, client: Client, prefix: str, stored_key: str) -> None:
    backend = await new_backend(global_keyprefix=prefix)
    await backend.store([record("t-1")])

    assert client.keys("*") == [f"{stored_key}celery-task-meta-t-1".encode()]
    assert await backend.get(["t-1"]) == [record("t-1").record]
    async with backend.watch(["t-1"]) as changes:
        assert (await anext(changes))[0] == "t-1"


@pytest.mark.parametrize("name", FOREIGN_SUCCESSES)
async def test_a_success_that_celery_wrote_is_kept(backend: RedisBackend, client: Client, name: str) -> None:
    """However it was serialised and compressed: what the script can't read is decoded."""
    ((task_id, foreign),) = stored_records(name).items()
    client.set(key(task_id), foreign)

    assert await backend.store([record(task_id, "FAILURE"), record("other")]) == [False, True]

    assert client.get(key(task_id)) == foreign


@pytest.mark.parametrize(
    "name", ["failure-builtin", "started", "retry", "revoked", "custom-state-progress", "success-pickle"]
)
async def test_what_is_no_success_or_cannot_be_known_to_be_one_is_replaced(
    backend: RedisBackend, client: Client, name: str
) -> None:
    ((task_id, foreign), *_) = stored_records(name).items()
    client.set(key(task_id), foreign)
    ours = record(task_id, value=4)

    assert await backend.store([ours]) == [True]

    assert client.get(key(task_id)) == ours.record


@pytest.mark.parametrize(
    ("foreign", "kept"),
    [
        (b'{"status":"SUCCESS","result":null,"task_id":"t"}', True),
        (b'{"task_id": "t", "status": "SUCCESS", "result": 1}', True),
        (b'{"result": {"status": "SUCCESS"}, "status": "STARTED", "task_id": "t"}', False),
        (b'{"status": "\\u0053UCCESS", "result": 1, "task_id": "t"}', True),
        (b'{"status": "SUCCESSFUL", "result": 1, "task_id": "t"}', False),
        (b"", False),
        (b"SUCCESS", False),
    ],
)
async def test_the_status_is_read_wherever_it_stands(
    backend: RedisBackend, client: Client, foreign: bytes, kept: bool
) -> None:
    client.set(key("t"), foreign)

    assert await backend.store([record("t", "FAILURE")]) == [not kept]


async def test_what_cannot_be_read_is_replaced_only_if_it_is_still_there(backend: RedisBackend, client: Client) -> None:
    """Between the look and the second try somebody stores a SUCCESS: it stays."""
    client.set(key("t"), b"a stranger's value")
    success = record("t", value="somebody else's").record
    look = backend.get

    async def look_and_lose(task_ids: Any) -> Any:
        found = await look(task_ids)
        client.set(key("t"), success)
        return found

    backend.get = look_and_lose  # pyright: ignore[reportAttributeAccessIssue] - the race, made certain

    assert await backend.store([record("t", "FAILURE")]) == [False]
    assert client.get(key("t")) == success


async def test_more_records_than_one_script_takes(backend: RedisBackend) -> None:
    ids = [new_id() for _ in range(1100)]

    assert await backend.store([record(task_id) for task_id in ids]) == [True] * 1100

    assert [decode_result(found or b"").task_id for found in await backend.get(ids)] == ids


# -- reading what Celery writes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FOREIGN_SUCCESSES, "failure-custom", "retry", "custom-state-progress"])
async def test_celerys_records_are_got_byte_for_byte(backend: RedisBackend, client: Client, name: str) -> None:
    found = stored_records(name)
    client.mset({key(task_id): stored for task_id, stored in found.items()})

    assert await backend.get(list(found)) == list(found.values())


async def test_a_celery_workers_writes_are_heard(backend: RedisBackend, client: Client) -> None:
    """SETEX and PUBLISH in one transaction, as the captured worker does them."""
    ((task_id, stored), *_) = stored_records("success").items()
    async with backend.watch([task_id]) as changes:
        step = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.1)
        with client.pipeline(transaction=True) as pipeline:
            pipeline.set(key(task_id), stored, ex=86400).publish(key(task_id), stored).execute()

        async with asyncio.timeout(2):
            assert await step == (task_id, stored)
    commands = [command["command"] for command in load("redis", "monitor_one_task")["commands"]]
    assert any(command.startswith('"PUBLISH" "celery-task-meta-') for command in commands)


async def test_a_writer_that_announces_nothing_is_noticed(
    backend: RedisBackend, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncq_backends.redis.listener._LOOK_AGAIN", 0.3)
    async with backend.watch(["t"]) as changes:
        step = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.1)
        client.set(key("t"), b"1")
        async with asyncio.timeout(BOUND):
            assert await step == ("t", b"1")

        step = asyncio.ensure_future(anext(changes))
        client.set(key("t"), b"2")
        async with asyncio.timeout(BOUND):
            assert await step == ("t", b"2")


# -- the listener --------------------------------------------------------------------------------------------


async def test_a_thousand_watchers_share_one_connection_and_few_commands(backend: RedisBackend, client: Client) -> None:
    ids = [new_id() for _ in range(1000)]
    before = client.info("stats")["total_connections_received"]

    async def follow(task_id: str) -> bytes:
        async with backend.watch([task_id]) as changes:
            return (await anext(changes))[1]

    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(task_id)) for task_id in ids]
        await until(lambda: len(client.pubsub_channels("celery-task-meta-*")) == 1000)
        await backend.store([record(task_id) for task_id in ids])

    assert [decode_result(one.result()).task_id for one in following] == ids
    assert client.info("stats")["total_connections_received"] - before == 1
    await until(lambda: client.pubsub_channels("celery-task-meta-*") == [])


async def test_a_task_that_is_followed_again_at_once_is_looked_at_again(backend: RedisBackend, client: Client) -> None:
    await backend.store([record("t", "STARTED")])
    for _ in range(20):
        async with backend.watch(["t"]) as changes, asyncio.timeout(BOUND):
            assert (await anext(changes))[0] == "t"


async def test_what_was_stored_while_the_connection_was_lost_is_told(backend: RedisBackend, client: Client) -> None:
    async with backend.watch(["t"]) as changes:
        step = asyncio.ensure_future(anext(changes))
        await until(lambda: client.pubsub_channels("celery-task-meta-*") != [])
        for _ in range(5):
            client.client_kill_filter(_type="pubsub")
        client.set(key("t"), b"unannounced")

        async with asyncio.timeout(3):
            assert await step == ("t", b"unannounced")


async def test_a_look_that_a_message_overtook_is_not_told(
    backend: RedisBackend, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply of MGET and the message travel on two connections: the older may come last."""
    await backend.store([record("t", "STARTED", "old")])
    told = asyncio.Event()

    async def slow_look(task_ids: Any) -> Any:
        found = await backend.get(task_ids)
        await backend.store([record("t", "PROGRESS", "new")])
        await told.wait()
        return found

    monkeypatch.setattr(backend._listener, "_look", slow_look)
    async with backend.watch(["t"]) as changes, asyncio.timeout(BOUND):
        assert decode_result((await anext(changes))[1]).result == "new"
        told.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(changes)


async def test_repeated_states_are_told_in_order(backend: RedisBackend) -> None:
    async with backend.watch(["t"]) as changes:
        seen: list[Any] = []

        async def read(changes: AsyncIterator[tuple[str, bytes]]) -> None:
            async for _, found in changes:
                seen.append(json.loads(found)["result"])
                if seen[-1] == 200:
                    return

        reading = asyncio.create_task(read(changes))
        for number in range(201):
            await backend.store([record("t", "PROGRESS", number)])
        async with asyncio.timeout(BOUND):
            await reading
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("final", ["SUCCESS", "FAILURE"])
async def test_a_retry_that_celery_stores_too_late_does_not_hide_the_end(
    backend: RedisBackend, client: Client, final: str
) -> None:
    """A Celery worker sends the next attempt first and stores RETRY then: somebody else may have ended the task."""
    task_id = new_id()
    end, late = record(task_id, final).record, record(task_id, "RETRY").record
    async with asyncio.timeout(BOUND), backend.watch([task_id]) as changes:
        await until(lambda: bool(client.pubsub_channels(key(task_id))))

        with client.pipeline(transaction=True) as pipeline:  # so that both arrive together
            pipeline.publish(key(task_id), end).publish(key(task_id), late).execute()

        assert await anext(changes) == (task_id, end)


async def test_a_closed_backend_is_followed_no_more(new_backend: NewBackend) -> None:
    backend = await new_backend()
    await backend.close()

    with pytest.raises(BackendConnectionError):
        async with backend.watch(["t"]):
            pass
