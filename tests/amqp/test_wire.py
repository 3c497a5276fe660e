"""What asyncq puts on a queue, read by Celery's own library, is what Celery puts there for the same call."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from kombu.connection import Connection

import golden
from amqp_kit import queue_name
from asyncq import AsyncQ

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
}  # fmt: skip

#: Different by intent: asyncq tells shapes and no values (docs/celery.md).
_SHAPES = {"argsrepr", "kwargsrepr"}

_VOLATILE = {
    "id": r"[0-9a-f-]{36}",
    "root_id": r"[0-9a-f-]{36}",
    "correlation_id": r"[0-9a-f-]{36}",
    "reply_to": r"[0-9a-f-]{36}",
    "origin": r"gen\d+@.+",
    "eta": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00",
    "expires": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00",
    "expiration": r"(60000|59\d{3})",
}


def blurred(values: dict[str, Any]) -> dict[str, Any]:
    """The values, where those that differ from run to run are replaced by what they look like."""
    return {
        name: pattern if (pattern := _VOLATILE.get(name)) and re.fullmatch(pattern, str(value)) else value
        for name, value in values.items()
    }


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_looks_as_celerys(url: str, name: str) -> None:
    fixture = golden.load("amqp", name)
    args, kwargs, options = CALLS[name]
    queue = queue_name()
    task = fixture["headers"]["task"]
    async with AsyncQ("wire", broker=url, default_queue=queue) as app:
        if name != "send-task":

            @app.task(name=task)
            async def known(*args: Any, **kwargs: Any) -> None: ...

        await app.send_task(task, args, kwargs, **options)

    def read() -> Any:
        with Connection(url) as connection:
            return connection.channel().basic_get(queue, no_ack=True)

    raw = await asyncio.to_thread(read)

    assert json.loads(raw.body) == json.loads(fixture["body_text"])  # ours has no spaces
    assert blurred(raw.properties["application_headers"] | dict.fromkeys(_SHAPES)) == blurred(
        fixture["headers"] | dict.fromkeys(_SHAPES)
    )
    properties = {key: value for key, value in raw.properties.items() if key != "application_headers"}
    assert blurred(properties) == blurred(fixture["properties"])
    assert raw.delivery_info["exchange"] == fixture["delivery"]["exchange"]
    assert raw.delivery_info["routing_key"] == queue
