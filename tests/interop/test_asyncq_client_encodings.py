"""asyncq sends, a real Celery worker runs: content types, compressions, types."""

from __future__ import annotations

from typing import Any

import pytest

from asyncq import AsyncQ
from interop.celery_worker import CeleryWorker
from interop.values import COMPRESSIONS, EXTENDED

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("value", EXTENDED, ids=repr)
async def test_celerys_types_travel_in_arguments_and_results(client: AsyncQ, value: Any) -> None:
    result = await client.send_task("interop.echo", [value], {"keyword": [value]})
    returned = await result.get(10)
    assert returned == [[value], {"keyword": [value]}]
    assert type(returned[0][0]) is type(value)


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack"])
async def test_content_types_are_decoded(client: AsyncQ, serializer: str) -> None:
    args, kwargs = [1, "zwei", 2.5, None, [True]], {"k": {"deep": ["ü"]}}
    result = await client.send_task("interop.echo", args, kwargs, serializer=serializer)
    assert await result.get(10) == [args, kwargs]


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_compressions_are_undone(client: AsyncQ, compression: str) -> None:
    args = ["lorem ipsum " * 500, {"n": 1}]
    result = await client.send_task("interop.echo", args, compression=compression)
    assert await result.get(10) == [args, {}]


async def test_the_apps_own_choice_of_encoding(celery_worker: CeleryWorker) -> None:
    url = celery_worker.url
    async with AsyncQ("client", broker=url, backend=url, serializer="msgpack", compression="bzip2") as client:
        result = await client.send_task("interop.echo", [b"\xff" * 500, "ü"])
        # The result is JSON: that is the worker's to choose.
        assert await result.get(10) == [[b"\xff" * 500, "ü"], {}]


async def test_results_of_another_encoding_are_read(other_client: AsyncQ) -> None:
    """They are msgpack, compressed, extended and under a prefix."""
    args = [1, "zwei", 2.5, None, [True, {"k": "ü" * 500}], b"\xff\x00"]
    result = await other_client.send_task("interop.echo", args, serializer="msgpack", headers={"tenant": "acme"})
    assert await result.get(10) == [args, {}]
    with pytest.raises(ValueError, match="boom"):
        await (await other_client.send_task("interop.fail", ["builtin"])).get(10)
