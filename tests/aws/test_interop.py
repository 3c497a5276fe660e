"""asyncq and real Celery on one SQS and one DynamoDB (moto's)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from asyncq import AsyncQ, Context
from asyncq._clock import new_id
from aws.moto_server import MotoServer
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

#: As in a celeryconfig; one namespace for each test.
Conf = dict[str, Any]


class CeleryOnAws(CeleryClient):
    """A Celery client whose backend is no Redis."""

    def _close(self, app: Celery) -> None:
        self._results.clear()
        app.close()


@pytest.fixture
def conf() -> Conf:
    options = {"region": "us-east-1", "queue_name_prefix": f"{new_id()[:8]}-", "wait_time_seconds": 1}
    return {"broker_transport_options": {**options, "polling_interval": 0.1}}


@pytest.fixture
def backend_url(moto: MotoServer) -> str:
    return f"dynamodb://testing:testing@127.0.0.1:{moto.port}/interop"


@pytest.fixture
async def queue(moto: MotoServer, backend_url: str, conf: Conf) -> AsyncIterator[AsyncQ]:
    async with AsyncQ("interop", broker=moto.sqs_url, backend=backend_url, **conf) as queue:
        yield queue


@pytest.fixture
async def celery(moto: MotoServer, backend_url: str, conf: Conf) -> AsyncIterator[CeleryClient]:
    async with CeleryOnAws(moto.sqs_url, backend=backend_url, **conf) as client:
        yield client


@pytest.fixture
def celery_worker(moto: MotoServer, backend_url: str, conf: Conf, tmp_path: Path) -> Iterator[CeleryWorker]:
    with CeleryWorker(moto.sqs_url, tmp_path, backend=backend_url, **conf) as worker:
        yield worker


async def test_a_celery_client_calls_tasks_of_an_asyncq_worker(queue: AsyncQ, celery: CeleryClient) -> None:
    attempts: list[int] = []

    @queue.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @queue.task(name="interop.stubborn", max_retries=3)
    async def stubborn(ctx: Context) -> int:
        attempts.append(ctx.retries)
        if ctx.retries < 2:
            raise ctx.retry(countdown=1)
        return ctx.retries

    @queue.task(name="interop.fail", max_retries=0)
    async def fail() -> None:
        raise ValueError("boom", 1)

    async with queue.worker(concurrency=5):
        assert await celery.call("interop.add", [1], {"b": 2}) == 3
        assert await celery.call("interop.stubborn") == 2
        assert attempts == [0, 1, 2]
        with pytest.raises(ValueError, match="boom"):
            await celery.call("interop.fail")
        sent = time.time()
        assert await celery.call("interop.add", [5], countdown=2) == 5
        assert time.time() - sent >= 2
        ids = [await celery.send("interop.add", [number]) for number in range(30)]
        assert [await celery.get(task_id) for task_id in ids] == list(range(30))


async def test_an_asyncq_client_calls_tasks_of_a_celery_worker(queue: AsyncQ, celery_worker: CeleryWorker) -> None:
    result = await queue.send_task("interop.add", [1], {"b": 2})
    assert await result.get(timeout=30) == 3
    failed = await queue.send_task("interop.fail", ["builtin"])
    with pytest.raises(ValueError, match="boom"):
        await failed.get(timeout=30)
    gate = celery_worker.gate("retry")
    gate.open()
    retried = await queue.send_task("interop.retry", [str(gate.path), 2])
    assert await retried.get(timeout=30) == 2
    sent = time.time()
    later = await queue.send_task("interop.clock", countdown=2)
    assert await later.get(timeout=30) >= sent + 2
    results = [await queue.send_task("interop.add", [number]) for number in range(20)]
    assert [await result.get(timeout=30) for result in results] == list(range(20))
