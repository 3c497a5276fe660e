"""Messages and records of other programs that speak the protocol (clients.md, whose numbers are quoted)."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncq.protocol import ExceptionRegistry, WireMessage, custom_headers, decode_result, decode_task, retry_of

_BODY = '[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def _envelope(body: str, headers: dict[str, Any], properties: dict[str, Any], **other: Any) -> bytes:
    fixed = {"content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps({"body": body, **fixed, "headers": headers, "properties": properties, **other}).encode()


def test_celery_node() -> None:  # 1 to 4
    raw = _envelope(
        b64encode(b"[[1, 2], {}, {}]").decode(),
        {"lang": "js", "task": "t", "id": "i"},
        {
            "correlationId": "c",
            "replyTo": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "body_encoding": "base64",
            "delivery_tag": "d",
        },
    )
    message = decode_task(raw)
    assert (message.lang, message.args, message.retries) == ("js", [1, 2], 0)
    assert (message.properties.correlation_id, message.properties.reply_to) == ("c", "")
    assert retry_of(raw, message, eta=None, retries=1).headers["retries"] == 1

    old = decode_task(_envelope('{"task": "t", "id": "i", "args": [1], "kwargs": {}}', {}, {}))
    assert (old.protocol, old.args) == (1, [1])


def test_celery_ts() -> None:  # 7 to 11
    properties = {"delivery_tag": "celery", "priority": 6, "body_encoding": "utf-8", "queue": "celery"}
    headers = {"lang": "py", "task": "t", "id": "i", "eta": "2026-11-21T13:27:33.361Z", "timelimit": [None, None]}
    plain = decode_task(_envelope(_BODY, headers, properties))
    assert (plain.args, plain.properties.priority) == ([1, 2], 6)
    assert plain.eta == datetime(2026, 11, 21, 13, 27, 33, 361000, tzinfo=UTC)

    # On RabbitMQ its content-encoding says base64, and the body is none.
    packed = WireMessage(
        zlib.compress(_BODY.encode()),
        headers | {"compression": "application/x-gzip"},
        content_encoding="base64",
    )
    assert decode_task(packed).compression == "zlib"


def test_aio_celery() -> None:  # 14
    headers = {"task": "t", "id": "i", "origin": "unknown_pid@unknown_hostname", "eta": "2030-01-02T03:04:05+02:00"}
    message = decode_task(_envelope(_BODY, headers, {"message_id": "m", "priority": 0, "correlation_id": "i"}))
    assert message.eta == datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)


def test_celery_4_4() -> None:  # 18, 20
    chord = {"task": "u", "args": [], "kwargs": {}, "options": {}, "chord_size": 2}
    headers = {"lang": "py", "task": "t", "id": "i", "group": "g", "retries": 0, "timelimit": [None, None]}
    message = decode_task(WireMessage(json.dumps([[], {}, {"chord": chord}]).encode(), headers))
    assert message.ignore_result is None
    assert message.chord == chord


@pytest.mark.parametrize("content_type", [{}, {"content-type": None}])
def test_a_missing_content_type_is_json(content_type: dict[str, None]) -> None:  # 46: it ends a Celery worker
    envelope = {"body": _BODY, "headers": {"task": "t", "id": "i"}, "properties": {}, **content_type}
    assert decode_task(json.dumps(envelope).encode()).args == [1, 2]


@pytest.mark.parametrize(
    "eta", ["2030-01-02T03:04:05Z", "2030-01-02 03:04:05", "2030-01-02T03:04:05.000", "20300102T030405+0000"]
)
def test_ways_to_write_a_time(eta: str) -> None:  # 45
    headers = {"task": "t", "id": "i", "eta": eta, "expires": eta}
    message = decode_task(_envelope(_BODY, headers, {}))
    assert message.eta == message.expires == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_headers_of_sentry_beat_and_opentelemetry() -> None:  # 34 to 37
    tools = {
        "celery_beat_task": True,
        "periodic_task_name": "nightly",
        "sentry-trace": "1-2-1",
        "sentry-task-enqueued-time": 1795254336.5,
        "headers": {"sentry-trace": "1-2-1", "sentry-monitor-config": {"schedule": {"type": "crontab"}}},
        "traceparent": "00-1-2-01",
        "baggage": "a=b%20c",
    }
    raw = _envelope(_BODY, {"task": "t", "id": "i", **tools}, {})
    assert custom_headers(raw) == tools
    retried = retry_of(raw, decode_task(raw), eta=None, retries=1)
    assert custom_headers(retried) == tools


def test_results_of_a_celery_node_worker() -> None:  # 31
    failed = decode_result(
        b'{"status": "FAILURE", "result": null, "traceback": {}, "children": [], "task_id": "i",'
        b' "date_done": "2026-11-21T13:27:33.361Z"}'
    )
    assert (failed.traceback, failed.result) == (None, None)
    assert failed.date_done == datetime(2026, 11, 21, 13, 27, 33, 361000, tzinfo=UTC)
    assert str(ExceptionRegistry().revive(failed.result, traceback=failed.traceback)) == "Exception"

    done = decode_result(b'{"status": "SUCCESS", "result": 3, "traceback": 3, "task_id": "i"}')
    assert (done.result, done.traceback, done.children, done.date_done) == (3, None, None, None)


def test_results_of_an_aio_celery_worker() -> None:  # 29
    record = decode_result(
        b'{"status": "RETRY", "result": {}, "traceback": null, "children": [], "date_done": null, "task_id": "i"}'
    )
    assert (record.status, record.result, record.date_done) == ("RETRY", {}, None)
