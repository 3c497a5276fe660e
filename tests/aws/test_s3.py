"""Objects are Celery's, and a Celery configuration finds them."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from celery import Celery

from asyncq import AsyncQ
from asyncq._clock import new_id
from asyncq.driver import GroupKeeping, ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError, ConfigurationError
from asyncq.protocol import ResultRecord, SavedGroup, decode_group, decode_result, encode_group, encode_result
from aws.moto_server import MotoServer


@pytest.fixture
def settings(moto: MotoServer) -> dict[str, Any]:
    """Celery's settings for results on S3, and their bucket."""
    bucket = f"bucket-{new_id()[:8]}"
    client: Any = boto3.client("s3", endpoint_url=moto.endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    client.close()
    return {
        "result_backend": "s3://",
        "s3_bucket": bucket,
        "s3_base_path": "results/",
        "s3_region": "us-east-1",
        "s3_endpoint_url": moto.endpoint,
        "s3_access_key_id": "testing",
        "s3_secret_access_key": "testing",
    }


def backend_of(settings: dict[str, Any]) -> ResultBackend:
    queue = AsyncQ("shop", broker="memory://")
    queue.config_from_object(settings)
    backend = queue.make_backend()
    assert backend is not None
    return backend


def success(task_id: str, value: object) -> StoredResult:
    record = encode_result(ResultRecord(task_id=task_id, status="SUCCESS", result=value))
    return StoredResult(task_id=task_id, record=record, status="SUCCESS")


async def test_celery_reads_ours_and_we_read_celerys(settings: dict[str, Any]) -> None:
    app = Celery("tests", set_as_current=False)
    app.conf.update(settings)
    backend = backend_of(settings)
    await backend.open()
    try:
        assert await backend.store([success("ours", "x" * 500_000)]) == [True]
        assert len(await asyncio.to_thread(lambda: app.AsyncResult("ours").get(timeout=5))) == 500_000
        await asyncio.to_thread(app.backend.store_result, "theirs", {"n": 1}, "SUCCESS")
        (record,) = await backend.get(["theirs"])
        assert record is not None
        assert decode_result(record).result == {"n": 1}
        assert await backend.store([success("theirs", 2)]) == [False]
    finally:
        await backend.close()
        app.close()


async def test_groups_are_kept_where_celery_keeps_them(settings: dict[str, Any]) -> None:
    app = Celery("tests", set_as_current=False)
    app.conf.update(settings)
    backend = backend_of(settings)
    assert isinstance(backend, GroupKeeping)
    await backend.open()
    try:
        await backend.save_group("ours", encode_group(SavedGroup(group_id="ours", members=["a", "b"])), expires=60.0)
        found = await asyncio.to_thread(lambda: [each.id for each in app.GroupResult.restore("ours")])
        assert found == ["a", "b"]
        await asyncio.to_thread(lambda: app.GroupResult("theirs", [app.AsyncResult("c")]).save())
        saved = await backend.saved_group("theirs")
        assert saved is not None
        assert list(decode_group(saved).task_ids()) == ["c"]
        await backend.forget_group("ours")
        assert await backend.saved_group("ours") is None
    finally:
        await backend.close()
        app.close()


async def test_a_connection_that_ends_within_a_result_is_told_as_that(settings: dict[str, Any]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [b"HTTP/1.1 200 OK", b'ETag: "1"', b"Content-Length: %d" % (100 if head.startswith(b"GET") else 0)]
        writer.write(b"\r\n".join([*lines, b"", b"half" if head.startswith(b"GET") else b""]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = backend_of(settings | {"s3_endpoint_url": f"http://127.0.0.1:{port}"})
    try:
        with pytest.raises(BackendConnectionError):
            await backend.get(["task"])
    finally:
        await backend.close()
        server.close()
        await server.wait_closed()


async def test_a_bucket_that_is_not_there_is_named(settings: dict[str, Any]) -> None:
    backend = backend_of(settings | {"s3_bucket": "nowhere-at-all"})
    with pytest.raises(ConfigurationError, match="no bucket 'nowhere-at-all'"):
        await backend.open()
    await backend.close()


def test_a_bucket_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="s3:// needs a bucket"):
        AsyncQ("shop", broker="memory://", backend="s3://").make_backend()
