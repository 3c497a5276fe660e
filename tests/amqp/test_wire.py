"""What asyncq puts on a queue, read by Celery's own library, is what Celery puts there for the same call."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from kombu.connection import Connection

import golden
from amqp_kit import queue_name
from asyncq import AsyncQ, Context
from asyncq.protocol import Properties, WireMessage, decode_task
from waiting import until

#: Capture -> how the call is made with asyncq.
CALLS: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "plain": ([2, 2], {}, {}),
    "kwargs": ([2], {"y": 3, "z": 4}, {}),
    "no-args": ([], {}, {}),
    "countdown": ([1, 2], {}, {"countdown": 30}),
    "expires-seconds": ([1, 2], {}, {"expires": 60}),
    "priority": ([1, 2], {}, {"priority": 5}),
    "time-limits": ([1, 2], {}, {"time_limit": 300, "soft_time_limit": 200}),
    "shadow": ([1, 2], {}, {"shadow": "nice name"}),
    "ignore-result": ([1, 2], {}, {"ignore_result": True}),
    "custom-task-id": ([1, 2], {}, {"task_id": "my-own-id-1"}),
    "custom-headers": (
        [1, 2], {}, {"headers": {"x-tenant": "acme", "n": 7, "flag": True, "nested": {"a": [1, 2.5, None]}}},
    ),
    "send-task": ([1], {"k": "v"}, {}),
    "eta-utc": ([1, 2], {}, {"eta": datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)}),
    "eta-offset": (
        [1, 2], {}, {"eta": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30)))},
    ),
    "expires-datetime": ([1, 2], {}, {"expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)}),
    "compressed-gzip": ([], {}, {"compression": "gzip"}),
    "compressed-zlib": ([], {}, {"compression": "zlib"}),
    "msgpack": ([], {}, {"serializer": "msgpack"}),
    "yaml": ([], {}, {"serializer": "yaml"}),
}  # fmt: skip

#: Captures whose arguments are best taken from them.
_THEIR_ARGUMENTS = {"msgpack", "yaml"} | {name for name in CALLS if name.startswith("compressed")}

_ACCEPT = ("json", "msgpack", "yaml")

#: Different by intent: asyncq tells shapes and no values (docs/celery.md).
_SHAPES = {"argsrepr", "kwargsrepr"}

_VOLATILE = {
    "id": r"[0-9a-f-]{36}",
    "root_id": r"[0-9a-f-]{36}",
    "parent_id": r"[0-9a-f-]{36}",
    "correlation_id": r"[0-9a-f-]{36}",
    "reply_to": r"[0-9a-f-]{36}",
    "origin": r"gen\d+@.+",
    "eta": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00",
    "expires": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00",
    "expiration": r"(60000|59\d{3}|9\d{10})",
}


def blurred(values: dict[str, Any]) -> dict[str, Any]:
    """The values, where those that differ from run to run are replaced by what they look like."""
    return {
        name: pattern if (pattern := _VOLATILE.get(name)) and re.fullmatch(pattern, str(value)) else value
        for name, value in values.items()
    }


def looks_the_same(raw: Any, fixture: dict[str, Any]) -> None:
    """A message that kombu has read has the headers and properties of a capture."""
    assert blurred(raw.properties["application_headers"] | dict.fromkeys(_SHAPES)) == blurred(
        fixture["headers"] | dict.fromkeys(_SHAPES)
    )
    properties = {key: value for key, value in raw.properties.items() if key != "application_headers"}
    assert blurred(properties) == blurred(fixture["properties"])


async def read_one(url: str, queue: str) -> Any:
    def read() -> Any:
        with Connection(url) as connection:
            return connection.channel().basic_get(queue, no_ack=True)

    return await asyncio.to_thread(read)


def content_of(raw: Any) -> WireMessage:
    """What kombu has read, as a transport of asyncq's hands it over."""
    properties = raw.properties
    body = raw.body if isinstance(raw.body, bytes) else raw.body.encode()
    headers = properties["application_headers"]
    return WireMessage(body, headers, Properties(), properties["content_type"], properties["content_encoding"])


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_looks_as_celerys(url: str, name: str) -> None:
    fixture = golden.load("amqp", name)
    theirs = decode_task(golden.amqp_message(fixture), accept=_ACCEPT)
    args, kwargs, options = CALLS[name]
    if name in _THEIR_ARGUMENTS:
        args, kwargs = list(theirs.args), dict(theirs.kwargs)
    queue = queue_name()
    task = fixture["headers"]["task"]
    async with AsyncQ("wire", broker=url, default_queue=queue) as app:
        if name != "send-task":

            @app.task(name=task)
            async def known(*args: Any, **kwargs: Any) -> None: ...

        await app.send_task(task, args, kwargs, **options)
    raw = await read_one(url, queue)
    looks_the_same(raw, fixture)
    if fixture["body_text"] is not None and "serializer" not in options:
        assert json.loads(raw.body) == json.loads(fixture["body_text"])  # ours has no spaces
    ours = decode_task(content_of(raw), accept=_ACCEPT)
    assert (ours.args, ours.kwargs) == (theirs.args, theirs.kwargs)
    assert raw.delivery_info["exchange"] == fixture["delivery"]["exchange"]
    assert raw.delivery_info["routing_key"] == queue


async def test_a_workers_retry_looks_as_celerys(url: str) -> None:
    """It waits in asyncq's own delay queues; what comes out of them is what Celery's worker puts on the queue."""
    fixture = golden.load("amqp", "worker-retry")
    queue = queue_name()
    async with AsyncQ("wire", broker=url, default_queue=queue) as app:

        @app.task(name=fixture["headers"]["task"])
        async def retried(ctx: Context, first: int, second: int) -> None:
            raise ctx.retry(countdown=600, max_retries=first)

        async with app.worker() as worker:
            options: dict[str, Any] = {
                "time_limit": 60,
                "soft_time_limit": 50,
                "expires": 3600,
                "headers": {"x-h": "v"},
                "priority": 4,
            }
            await app.send_task(fixture["headers"]["task"], [5, 600], {}, **options)
            await until(lambda: worker.stats.retried == 1)
        broker = app.make_broker()
        await broker.open()
        try:
            (parked,) = await broker.peek(queue, "parked")
            assert await broker.move(queue, "parked", [parked.key]) == 1
        finally:
            await broker.close()
    raw = await read_one(url, queue)
    # RabbitMQ would let go of it early, or before it is due: whoever takes it looks at the header.
    fixture["properties"].pop("expiration")
    looks_the_same(raw, fixture)
    assert json.loads(raw.body)[:2] == json.loads(fixture["body_text"])[:2]  # theirs had a callback
