"""A real Celery client sends, an asyncq worker runs: content types, compressions, types."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from asyncq import AsyncQ
from asyncq.protocol import decode_envelope
from interop.celery_client import CeleryClient
from interop.values import COMPRESSIONS, EXTENDED
from waiting import until

pytestmark = pytest.mark.interop


def echoing(app: AsyncQ) -> None:
    @app.task(name="echo")
    async def echo(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]


@pytest.mark.parametrize("value", EXTENDED, ids=repr)
async def test_celerys_types_travel_in_arguments_and_results(celery: CeleryClient, queue: AsyncQ, value: Any) -> None:
    seen: list[Any] = []

    @queue.task(name="same")
    async def same(value: Any, *, keyword: Any) -> Any:
        seen.append((value, keyword))
        return {"value": value}

    async with queue.worker():
        result = await celery.call("same", [value], {"keyword": [value]})
    assert seen == [(value, [value])]
    assert result == {"value": value}
    assert type(result["value"]) is type(value)


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack"])
async def test_allowed_content_types_are_decoded(url: str, serializer: str) -> None:
    async with (
        AsyncQ("interop", broker=url, backend=url, accept_content=["json", "yaml", "msgpack"]) as queue,
        CeleryClient(url) as celery,
    ):
        echoing(queue)
        async with queue.worker():
            args, kwargs = [1, "zwei", 2.5, None, [True]], {"k": {"deep": ["ü"]}}
            assert await celery.call("echo", args, kwargs, serializer=serializer) == [args, kwargs]


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
async def test_other_content_types_go_to_the_dead_letters(celery: CeleryClient, queue: AsyncQ, serializer: str) -> None:
    """Pickle would run a stranger's code, and no setting of ours allows it by accident."""
    echoing(queue)
    async with queue.worker() as worker:
        await celery.send("echo", [1], serializer=serializer)
        await until(lambda: worker.stats.dead == 1)
        assert await celery.call("echo", [2]) == [[2], {}]
    broker = queue.make_broker()
    await broker.open()
    [dead] = await broker.peek("celery", "dead")
    await broker.close()
    assert isinstance(dead.content, bytes)
    letter = decode_envelope(dead.content)
    assert serializer in letter.headers["asyncq-dead"]["reason"]
    assert letter.headers["task"] == "echo"


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_allowed_compressions_are_undone(url: str, compression: str) -> None:
    allowed = ["zlib", "bzip2", "lzma", "brotli", "zstd"]
    async with (
        AsyncQ("interop", broker=url, backend=url, accept_compression=allowed) as queue,
        CeleryClient(url) as celery,
    ):
        echoing(queue)
        async with queue.worker():
            sent = ["lorem ipsum " * 500, {"n": 1}]
            assert await celery.call("echo", sent, compression=compression) == [sent, {}]


@pytest.mark.parametrize("compression", ["bzip2", "lzma"])
async def test_other_compressions_go_to_the_dead_letters(celery: CeleryClient, queue: AsyncQ, compression: str) -> None:
    echoing(queue)
    async with queue.worker() as worker:
        await celery.send("echo", ["a" * 1000], compression=compression)
        await until(lambda: worker.stats.dead == 1)


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack"])
async def test_a_client_reads_results_in_its_own_content_type(url: str, serializer: str) -> None:
    async with (
        AsyncQ("interop", broker=url, backend=url, result_serializer=serializer) as queue,
        CeleryClient(url, result_serializer=serializer, accept_content=[serializer]) as celery,
    ):
        echoing(queue)
        async with queue.worker():
            sent = [1, "zwei", 2.5, None, [True, {"k": "ü"}]]
            assert await celery.call("echo", sent, serializer="json") == [sent, {}]


@pytest.mark.parametrize("compression", ["zlib", "gzip", "bzip2"])
async def test_a_client_reads_compressed_results(url: str, compression: str) -> None:
    async with (
        AsyncQ("interop", broker=url, backend=url, result_compression=compression) as queue,
        CeleryClient(url) as celery,
    ):
        echoing(queue)
        async with queue.worker():
            sent = ["lorem ipsum " * 500]
            assert await celery.call("echo", sent) == [sent, {}]


async def test_a_client_in_another_time_zone_is_understood(url: str, queue: AsyncQ) -> None:
    def send(app: Celery) -> Any:
        return app.send_task("echo", ["x"], countdown=0.1, expires=60).get(timeout=10)

    echoing(queue)
    async with CeleryClient(url, timezone="Asia/Kolkata", enable_utc=False) as celery, queue.worker():
        assert await celery.run(send) == [["x"], {}]
