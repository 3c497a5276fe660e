"""Objects are Celery's, and a Celery configuration finds them."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from celery import Celery

from asyncq import AsyncQ
from asyncq._clock import new_id
from asyncq.driver import ResultBackend, StoredResult
from asyncq.errors import ConfigurationError
from asyncq.protocol import ResultRecord, decode_result, encode_result
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


async def test_a_bucket_that_is_not_there_is_named(settings: dict[str, Any]) -> None:
    backend = backend_of(settings | {"s3_bucket": "nowhere-at-all"})
    with pytest.raises(ConfigurationError, match="no bucket 'nowhere-at-all'"):
        await backend.open()
    await backend.close()


def test_a_bucket_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="s3:// needs a bucket"):
        AsyncQ("shop", broker="memory://", backend="s3://").make_backend()
