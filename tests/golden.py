"""The captured messages and records under tests/fixtures, as asyncq meets them."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncq.protocol import Properties, WireMessage

FIXTURES = Path(__file__).parent / "fixtures"

_MONITOR_ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*"')


def load(folder: str, name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / folder / f"{name}.json").read_text())


def names(folder: str) -> list[str]:
    return sorted(path.stem for path in (FIXTURES / folder).glob("*.json"))


def amqp_message(fixture: dict[str, Any]) -> WireMessage:
    """A captured message as an AMQP transport hands it over."""
    properties = fixture["properties"]
    return WireMessage(
        body=base64.b64decode(fixture["body_base64"]),
        headers=fixture["headers"],
        properties=Properties(
            correlation_id=properties["correlation_id"],
            reply_to=properties.get("reply_to"),
            priority=properties.get("priority"),
            delivery_mode=properties["delivery_mode"],
            expiration=properties.get("expiration"),
        ),
        content_type=properties["content_type"],
        content_encoding=properties["content_encoding"],
    )


def redis_envelopes(name: str) -> list[bytes]:
    """Every envelope in a capture of Redis: stored, pushed, published or unacknowledged."""
    return [found for found in _strings(load("redis", name)) if found.startswith(b'{"body"')]


def redis_records(name: str) -> list[bytes]:
    """Every result record in a capture of Redis."""
    return [found for found in _strings(load("redis", name)) if found.startswith(b'{"status"')]


def stored_records(name: str) -> dict[str, bytes]:
    """The task records in a capture of a result backend, by task id."""
    records: dict[str, bytes] = {}
    for key, stored in load("results", name).get("redis_keys", {}).items():
        _, found, task_id = key.partition("celery-task-meta-")
        if found:
            value = stored["value"]
            records[task_id] = value.encode() if isinstance(value, str) else base64.b64decode(value["$base64"])
    return records


def _strings(value: Any) -> Iterator[bytes]:
    if isinstance(value, str):
        if value.startswith('[{"body"'):  # an entry of `unacked`
            yield json.dumps(json.loads(value)[0]).encode()
        elif value.startswith('"'):  # a command as MONITOR prints it
            for argument in _MONITOR_ARGUMENT.findall(value):
                yield from _strings(ast.literal_eval(f"b{argument}").decode("utf-8", "replace"))
        else:
            yield value.encode()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
