"""What asyncq writes for a call is what Celery writes for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

import golden
from asyncq.errors import EncodeError
from asyncq.protocol import (
    Limits,
    Properties,
    TaskMessage,
    WireMessage,
    custom_headers,
    decode_envelope,
    decode_task,
    encode_envelope,
    encode_task,
)
from asyncq.protocol._json import RawList
from values import messages, same

_JSON_CALLS = [
    name
    for name in golden.names("amqp")
    if golden.load("amqp", name)["headers"].get("task")
    and golden.load("amqp", name)["properties"]["content_type"] == "application/json"
    and "compression" not in golden.load("amqp", name)["headers"]
]


@pytest.mark.parametrize("name", _JSON_CALLS)
def test_every_header_that_celery_sets_is_there_with_the_same_value_and_type(name: str) -> None:
    wire = golden.amqp_message(golden.load("amqp", name))
    message = decode_task(wire)

    ours = encode_task(message, headers=custom_headers(wire))

    times = {"eta", "expires"}
    assert list(ours.headers) == list(wire.headers)
    # As text, so that 60 and 60.0, 0 and false differ.
    assert _as_text(ours.headers, times) == _as_text(wire.headers, times)
    for header in times:
        assert _utc(ours.headers[header]) == _utc(wire.headers[header])
    assert json.loads(ours.body) == json.loads(wire.body)
    assert replace(ours, headers={}, body=b"") == replace(wire, headers={}, body=b"")


def _as_text(headers: dict[str, Any], without: set[str]) -> str:
    return json.dumps({name: value for name, value in headers.items() if name not in without})


def _utc(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def test_what_a_message_leaves_open_is_filled_in_as_celery_does() -> None:
    wire = encode_task(TaskMessage(task="t", id="i", args=[1, "secret"], kwargs={"token": "x", "n": 2.5}))
    assert wire.headers["root_id"] == wire.properties.correlation_id == "i"
    assert wire.properties.reply_to == ""
    assert wire.headers["argsrepr"] == "(<int>, <str 6>)"
    assert wire.headers["kwargsrepr"] == "{'token': <secret>, 'n': <float>}"
    assert wire.headers["timelimit"] == [None, None]


@pytest.mark.parametrize(
    ("eta", "text"),
    [
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2030-01-02T03:04:05+05:30"),
        (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2030-01-02T03:04:05.000006+00:00"),
        (datetime(2030, 1, 2, 3, 4, 5), "2030-01-02T03:04:05+00:00"),  # noqa: DTZ001 - means UTC
    ],
)
def test_times_carry_an_offset(eta: datetime, text: str) -> None:
    assert encode_task(TaskMessage(task="t", id="i", eta=eta)).headers["eta"] == text


def test_the_users_headers_stand_at_top_level_and_may_not_take_the_protocols_names() -> None:
    message = TaskMessage(task="t", id="i")
    assert encode_task(message, headers={"tenant": {"a": 1}}).headers["tenant"] == {"a": 1}
    with pytest.raises(EncodeError, match="belong to the protocol: expires, id"):
        encode_task(message, headers={"id": "j", "expires": None})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (TaskMessage(task="t", id="i", args=[object()]), "Object of type object is not JSON serializable"),
        (TaskMessage(task="t", id="i", kwargs={"k": {(1, 2): 3}}), "keys must be str"),
        (TaskMessage(task="t", id="i", serializer="pickle"), "asyncq writes no pickle"),
        (TaskMessage(task="t", id="i", serializer="xml"), "unknown serializer 'xml'"),
        (TaskMessage(task="t", id="i", compression="rar"), "unknown compression 'rar'"),
        (TaskMessage(task="t", id=""), "has no id"),
        (TaskMessage(task="", id="i"), "neither a header 'task'"),
        (TaskMessage(task="t\n", id="i"), "must be printable"),
        (TaskMessage(task="t" * 256, id="i"), "at most 255"),
    ],
)
def test_what_can_not_travel_is_refused_at_the_sender(message: TaskMessage, reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode_task(message)
    assert reason in str(caught.value)


def test_a_message_too_large_for_its_readers_is_refused_at_the_sender() -> None:
    limits = Limits(max_message_bytes=100_000)
    message = TaskMessage(task="t", id="i", args=["x" * 60_000])
    envelope = encode_envelope(encode_task(message, limits=limits), routing_key="q", delivery_tag="t")
    assert decode_task(envelope, limits=limits).args == message.args
    with pytest.raises(EncodeError, match="100000 are allowed"):
        encode_task(replace(message, args=["x" * 80_000]), limits=limits)


@pytest.mark.parametrize("levels", [1, 61, 62, 63, 64, 65, 5000])
def test_what_is_nested_too_deep_for_its_readers_is_refused_at_the_sender(levels: int) -> None:
    nested: Any = []
    for _ in range(levels - 1):
        nested = [nested]
    message = TaskMessage(task="t", id="i", args=[nested])
    if levels > 62:  # the body and its args are two levels
        with pytest.raises(EncodeError, match="nested"):
            encode_task(message)
    else:
        assert decode_task(encode_task(message)).args == [nested]


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for serializer in ("json", "msgpack", "yaml"):
        with pytest.raises(EncodeError):
            encode_task(TaskMessage(task="t", id="i", args=[loop], serializer=serializer))


@settings(max_examples=100, deadline=None)
@given(message=messages)
def test_a_message_comes_back_as_it_was(message: TaskMessage) -> None:
    wire = encode_task(message)
    envelope = encode_envelope(wire, routing_key="celery", delivery_tag="tag")

    assert encode_envelope(encode_task(message), routing_key="celery", delivery_tag="tag") == envelope
    for decoded in (decode_task(envelope), decode_task(wire)):
        assert _same_message(decoded, message)
        assert _same_message(decode_task(encode_task(decoded)), message)


def _same_message(one: TaskMessage, other: TaskMessage) -> bool:
    free = {"args": [], "kwargs": {}, "stamps": {}, "callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return replace(one, **free) == replace(other, **free) and all(
        same(_decoded(getattr(one, name)), _decoded(getattr(other, name))) for name in free
    )


def _decoded(found: Any) -> Any:
    return list(found) if isinstance(found, RawList) else found


def test_the_envelope_is_kombus() -> None:
    wire = WireMessage(b"{}", {"task": "t"}, Properties("c", "r", 3, 1, "9000"), "application/json", "utf-8")
    assert encode_envelope(wire, exchange="ex", routing_key="key", delivery_tag="tag") == (
        b'{"body": "e30=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"task":"t"}, '
        b'"properties": {"correlation_id": "c", "reply_to": "r", "delivery_mode": 1, "expiration": "9000", '
        b'"delivery_info": {"exchange": "ex", "routing_key": "key"}, "priority": 3, "body_encoding": "base64", '
        b'"delivery_tag": "tag"}}'
    )


def test_headers_may_hold_what_celerys_json_can() -> None:
    headers = {"when": datetime(2030, 1, 2, tzinfo=UTC), "raw": b"\xff", "odd": "\ud800", "nan": float("inf")}
    wire = WireMessage(b"", headers)
    envelope = encode_envelope(wire, routing_key="q", delivery_tag="t")
    assert decode_envelope(envelope).headers == headers
    with pytest.raises(EncodeError, match="type object"):
        encode_envelope(WireMessage(b"", {"x": object()}), routing_key="q", delivery_tag="t")
