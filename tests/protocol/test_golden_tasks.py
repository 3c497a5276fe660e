"""Every captured task message decodes to what its fixture says."""

from __future__ import annotations

import importlib.util
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

import golden
from asyncq.errors import DecodeError
from asyncq.protocol import Limits, TaskMessage, custom_headers, decode_envelope, decode_task, encode_envelope

_ALL_COMPRESSIONS = Limits(compressions=frozenset({"gzip", "bzip2", "lzma", "brotli", "zstd"}))
_SAFE = ("json", "msgpack", "yaml")

#: Captures that no default worker may run.
_REFUSED = {"pickle": "x-python-serialize", "auth-signed": "must be [args, kwargs, embed], not bytes"}

_OPTIONAL = {"compressed-brotli": ("brotli", "brotli>=1.2"), "compressed-zstd": ("backports", "backports.zstd")}

#: Arguments that a capture doesn't hold as text.
_ARGUMENTS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "json-extended": (
        [
            datetime(2030, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001 - sent without an offset, stays so
            datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
            date(2030, 1, 2),
            time(3, 4, 5, 6),
            Decimal("1.10"),
            uuid.UUID("12345678123456781234567812345678"),
            b"abc",
            b"\xff\x00\x80",
            [1, 2],
            {"task": "proj.add", "args": [1], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False},
        ],
        {"nested": {"d": date(2030, 1, 2)}},
    ),
    "msgpack": ([1, "two", [3.5, None, True], b"\xff\x00"], {"k": {"a": 1}}),
    "msgpack-link": ([1, 2], {}),
    "yaml": (
        [1, "two", [3.5, None, True], {"k": datetime(2030, 1, 2, 3, 4, 5), "d": date(2030, 1, 2)}],  # noqa: DTZ001
        {"b": b"\xff"},
    ),
    **{f"compressed-{name}": (["x" * 200], {}) for name in ("zlib", "gzip", "bzip2", "lzma", "brotli", "zstd")},
}

_SERIALIZERS = {"msgpack": "msgpack", "msgpack-link": "msgpack", "yaml": "yaml"}
_COMPRESSIONS = {
    "compressed-zlib": "zlib",
    "compressed-gzip": "zlib",
    "compressed-bzip2": "bzip2",
    "compressed-lzma": "lzma",
    "compressed-brotli": "brotli",
    "compressed-zstd": "zstd",
}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_fields(message: TaskMessage, fields: Mapping[str, Any]) -> None:
    """Against protocol 2's headers, or protocol 1's body."""
    assert (message.task, message.id) == (fields["task"], fields["id"])
    assert (message.eta, message.expires) == (_time(fields["eta"]), _time(fields["expires"]))
    assert (message.group, message.group_index) == (fields["group"], fields["group_index"])
    assert [message.time_limit, message.soft_time_limit] == fields["timelimit"]
    assert message.retries == fields["retries"]
    for name in ("shadow", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"):
        assert getattr(message, name) == fields.get(name)
    assert message.replaced_task_nesting == fields.get("replaced_task_nesting", 0)
    assert message.stamped_headers == fields.get("stamped_headers")
    assert message.stamps == fields.get("stamps", {})


@pytest.mark.parametrize("name", [name for name in golden.names("amqp") if name not in _REFUSED])
def test_a_message_captured_on_amqp_decodes_to_what_was_sent(name: str) -> None:
    fixture = golden.load("amqp", name)
    wire = golden.amqp_message(fixture)
    if name in _OPTIONAL:
        module, package = _OPTIONAL[name]
        if importlib.util.find_spec(module) is None:
            with pytest.raises(DecodeError, match=f"needs {package}"):
                decode_task(wire, limits=_ALL_COMPRESSIONS)
            return

    message = decode_task(wire, limits=_ALL_COMPRESSIONS, accept=_SAFE)

    body = (
        json.loads(fixture["body_text"]) if wire.content_type == "application/json" and fixture["body_text"] else None
    )
    if isinstance(body, dict):
        assert message.protocol == 1
        _check_fields(message, body)
        args, kwargs, links = body["args"], body["kwargs"], body
    else:
        assert message.protocol == 2
        _check_fields(message, fixture["headers"])
        args, kwargs, links = body or (None, None, {})
    args, kwargs = _ARGUMENTS.get(name, (args, kwargs))
    assert (message.args, message.kwargs) == (args, kwargs)
    if body is not None:
        assert message.callbacks == links["callbacks"]
        assert message.errbacks == links["errbacks"]
        assert message.chain == links.get("chain")
        assert message.chord == links["chord"]
    assert message.serializer == _SERIALIZERS.get(name, "json")
    assert message.compression == _COMPRESSIONS.get(name)
    assert message.properties == wire.properties


@pytest.mark.parametrize(("name", "reason"), _REFUSED.items())
def test_what_a_default_worker_may_not_run_is_refused(name: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_task(golden.amqp_message(golden.load("amqp", name)), accept=_SAFE)
    assert reason in str(caught.value)


def test_links_in_msgpack_arrive() -> None:
    message = decode_task(golden.amqp_message(golden.load("amqp", "msgpack-link")), accept=["application/x-msgpack"])
    assert message.callbacks is not None
    assert [link["task"] for link in message.callbacks] == ["proj.mul"]


@pytest.mark.parametrize("name", golden.names("amqp"))
def test_a_message_survives_the_envelope(name: str) -> None:
    wire = golden.amqp_message(golden.load("amqp", name))
    if wire.properties.priority is None:
        wire.properties.priority = 0  # kombu's envelope always has one, and absent means 0
    envelope = encode_envelope(wire, routing_key="celery", delivery_tag="tag")
    assert decode_envelope(envelope) == wire


_REDIS_TASKS = [
    (name, number)
    for name in golden.names("redis")
    for number, raw in enumerate(golden.redis_envelopes(name))
    if "task" in json.loads(raw)["headers"] and name != "task_pickle"
]


@pytest.mark.parametrize(("name", "number"), _REDIS_TASKS)
def test_an_envelope_captured_on_redis_decodes_to_what_was_sent(name: str, number: int) -> None:
    raw = golden.redis_envelopes(name)[number]
    fixture = json.loads(raw)
    message = decode_task(raw)
    _check_fields(message, fixture["headers"])
    assert message.properties.correlation_id == fixture["properties"]["correlation_id"]
    assert message.properties.priority == fixture["properties"]["priority"]
    assert message.redelivered is fixture["headers"].get("redelivered", False)
    assert decode_task(decode_envelope(raw)) == message


def test_arguments_captured_on_redis() -> None:
    fixture = golden.load("redis", "task_default")
    [raw] = golden.redis_envelopes("task_default")
    args, kwargs, _ = fixture["decoded"][0]["body"]
    message = decode_task(raw)
    assert (message.args, message.kwargs) == (args, kwargs) == ([1, 2], {})


def test_pickle_on_redis_is_refused_unless_it_is_accepted_by_name() -> None:
    [raw] = golden.redis_envelopes("task_pickle")
    for accept in (("json",), _SAFE, ()):
        with pytest.raises(DecodeError, match=r"application/x-python-serialize \(pickle\) is not accepted"):
            decode_task(raw, accept=accept)
    message = decode_task(raw, accept=["pickle"])
    assert (message.args, message.serializer) == ([1, 2], "pickle")


@pytest.mark.parametrize("name", [name for name in golden.names("redis") if golden.redis_envelopes(name)])
def test_events_and_commands_on_redis_are_told_from_tasks(name: str) -> None:
    for raw in golden.redis_envelopes(name):
        if "task" not in json.loads(raw)["headers"]:
            with pytest.raises(DecodeError, match="no task's message"):
                decode_task(raw)


def test_custom_headers_are_the_users_own() -> None:
    wire = golden.amqp_message(golden.load("amqp", "custom-headers"))
    assert custom_headers(wire) == {"x-tenant": "acme", "n": 7, "flag": True, "nested": {"a": [1, 2.5, None]}}
    [raw] = golden.redis_envelopes("task_headers")
    assert custom_headers(raw) == {"x-tenant": "t1"}
    [restored] = golden.redis_envelopes("restored_after_shutdown")
    assert custom_headers(restored) == {}
