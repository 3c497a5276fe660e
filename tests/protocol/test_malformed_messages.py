"""Messages that are not as they should be: refused with a reason, or taken where their meaning is clear.

The tables are those of amqp.md, section 6, and of clients.md, 43 to 50, which say what a Celery worker does with each;
several of them end one.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncq.errors import DecodeError
from asyncq.protocol import Properties, TaskMessage, WireMessage, decode_task

_HEADERS = {"task": "t", "id": "i"}


def _message(body: Any = ([1, 2], {}, {}), headers: dict[str, Any] | None = None, **how: Any) -> WireMessage:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireMessage(raw, _HEADERS if headers is None else headers, **how)


_V1 = {"task": "t", "id": "i", "args": [1, 2], "kwargs": {}}

_REFUSED = {
    "the body is no JSON": (_message(b"{nope"), "no JSON"),
    "the body is no UTF-8": (_message(b'[["\xff"], {}, {}]'), "not UTF-8"),
    "args is an object": (_message(({"a": 1}, {}, {})), "args must be an array, not dict"),
    "kwargs is a list": (_message(([], [], {})), "kwargs must be an object, not list"),
    "embed is a list": (_message(([], {}, [])), "embed must be an object, not list"),
    "two parts": (_message(([], {})), "not 2 parts"),
    "four parts": (_message(([], {}, {}, {})), "not 4 parts"),
    "an object without args": (_message({"kwargs": {}}), "must be [args, kwargs, embed], not dict"),
    "the body is text": (_message("x"), "must be [args, kwargs, embed], not str"),
    "no id": (_message(headers={"task": "t"}), "the message for task t has no id"),
    "an empty id": (_message(headers={"task": "t", "id": ""}), "has no id"),
    "an id that is a number": (_message(headers={"task": "t", "id": 5}), "header id must be text, not int"),
    "an id with a line break": (_message(headers={"task": "t", "id": "i\nERROR x"}), "must be printable"),
    "a group with a lone surrogate": (_message(headers=_HEADERS | {"group": "\udc80"}), "must be printable"),
    "an endless id": (_message(headers={"task": "t", "id": "i" * 513}), "at most 512"),
    "a task that is a number": (_message(headers={"task": 5, "id": "i"}), "header task must be text, not int"),
    "a task of 256 characters": (_message(headers={"task": "t" * 256, "id": "i"}), "at most 255"),
    "a task with a terminal's escape": (_message(headers={"task": "\x1b[2J", "id": "i"}), "must be printable"),
    "one time limit": (_message(headers=_HEADERS | {"timelimit": [5]}), "two items, hard and soft, not 1"),
    "three time limits": (_message(headers=_HEADERS | {"timelimit": [5, 5, 5]}), "not 3"),
    "a time limit that is text": (_message(headers=_HEADERS | {"timelimit": ["5", None]}), "must be seconds, not str"),
    "a time limit that is a flag": (_message(headers=_HEADERS | {"timelimit": [True, None]}), "not bool"),
    "time limits that are text": (_message(headers=_HEADERS | {"timelimit": "55"}), "must be an array, not str"),
    "a negative time limit": (_message(headers=_HEADERS | {"timelimit": [-1, None]}), "out of range"),
    "a time limit of ages": (_message(headers=_HEADERS | {"timelimit": [10**400, None]}), "out of range"),
    "a time limit that is none": (_message(headers=_HEADERS | {"timelimit": [None, float("nan")]}), "out of range"),
    "an endless time limit": (_message(headers=_HEADERS | {"timelimit": [float("inf"), None]}), "out of range"),
    "an eta that is none": (_message(headers=_HEADERS | {"eta": "tomorrow"}), "eta is no ISO 8601 time: 'tomorrow'"),
    "an eta that is a number": (_message(headers=_HEADERS | {"eta": 12.5}), "header eta must be text, not float"),
    "an eta before time": (_message(headers=_HEADERS | {"eta": "0001-01-01T00:00:00+10:00"}), "eta is out of range"),
    "an eta after time": (_message(headers=_HEADERS | {"eta": "9999-12-31T23:59:59-10:00"}), "eta is out of range"),
    "an eta in the year 10000": (_message(headers=_HEADERS | {"eta": "10000-01-01"}), "eta is no ISO 8601 time"),
    "an expiry that is none": (_message(headers=_HEADERS | {"expires": "2030-99-01"}), "expires is no ISO 8601"),
    "negative retries": (_message(headers=_HEADERS | {"retries": -1}), "header retries is out of range"),
    "endless retries": (_message(headers=_HEADERS | {"retries": 10**30}), "header retries is out of range"),
    "retries that are text": (_message(headers=_HEADERS | {"retries": "3"}), "header retries must be an integer"),
    "a group that is a number": (_message(headers=_HEADERS | {"group": 3}), "header group must be text, not int"),
    "an unknown compression": (_message(headers=_HEADERS | {"compression": "rar"}), "unknown compression 'rar'"),
    "a corrupt compression": (_message(headers=_HEADERS | {"compression": "zlib"}), "corrupt zlib data"),
    "an unknown marker": (_message(([{"__type__": "x", "__value__": 1}], {}, {})), "marker of an unknown type: 'x'"),
    "a callback that is text": (_message(([], {}, {"callbacks": ["x"]})), "signature in callbacks must be an object"),
    "callbacks that are text": (_message(([], {}, {"callbacks": "x"})), "callbacks must be an array"),
    "a chord that is a list": (_message(([], {}, {"chord": []})), "signature in chord must be an object"),
    "an object without a task": (_message({"x": 1}, {}), "no task's message"),
    "a list without a task": (_message([[], {}, {}], {}), "no task's message"),
    "protocol 1 without an id": (_message({"task": "t", "args": []}, {}), "has no id"),
    "protocol 1 with a list of kwargs": (_message(_V1 | {"kwargs": []}, {}), "kwargs must be an object"),
    "protocol 1 with odd retries": (_message(_V1 | {"retries": "x"}, {}), "header retries must be an integer"),
    "plain text": (_message(content_type="text/plain"), "unknown content type 'text/plain'"),
    "pickle": (_message(content_type="application/x-python-serialize"), "(pickle) is not accepted"),
    "yaml": (_message(content_type="application/x-yaml"), "(yaml) is not accepted"),
    "raw bytes": (_message(content_type="application/data"), "must be [args, kwargs, embed], not bytes"),
    "utf-16 that is none": (_message(b"x", content_encoding="utf-16"), "the body is no utf-16"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_refused(name: str) -> None:
    content, reason = _REFUSED[name]
    with pytest.raises(DecodeError) as caught:
        decode_task(content)
    assert reason in str(caught.value)
    with pytest.raises(DecodeError) as caught:
        decode_task(_enveloped(content))
    assert reason in str(caught.value)


def _enveloped(message: WireMessage) -> bytes:
    """As any client may write it, checks left out."""
    return json.dumps(
        {
            "body": base64.b64encode(message.body).decode(),
            "content-encoding": message.content_encoding,
            "content-type": message.content_type,
            "headers": message.headers,
            "properties": {"body_encoding": "base64", "delivery_info": {}},
        }
    ).encode()


_CALL = TaskMessage(task="t", id="i", args=[1, 2])

_TAKEN = {
    "only task and id": (_message(), _CALL),
    "embed is null": (_message(([1, 2], {}, None)), _CALL),
    "args and kwargs are null": (_message((None, None, None)), TaskMessage(task="t", id="i")),
    "retries is null": (_message(headers=_HEADERS | {"retries": None}), _CALL),
    "retries is 1.0": (
        _message(headers=_HEADERS | {"retries": 1.0}),
        TaskMessage(task="t", id="i", args=[1, 2], retries=1),
    ),
    "every header is null": (
        _message(headers=dict.fromkeys(["eta", "expires", "timelimit", "stamps", "ignore_result", "lang"]) | _HEADERS),
        _CALL,
    ),
    "notes that are no text": (_message(headers=_HEADERS | {"origin": 5, "argsrepr": [], "lang": {}}), _CALL),
    "a flag that is a number": (
        _message(headers=_HEADERS | {"ignore_result": 1}),
        TaskMessage(task="t", id="i", args=[1, 2], ignore_result=True),
    ),
    "a single callback": (
        _message(([1, 2], {}, {"callbacks": {"task": "u"}})),
        TaskMessage(task="t", id="i", args=[1, 2], callbacks=[{"task": "u"}]),
    ),
    "a charset in the content type": (_message(content_type="application/json; charset=utf-8"), _CALL),
    "an unknown encoding": (_message(content_encoding="base64"), _CALL),
    "utf-16": (
        _message('[["ü"], {}, {}]'.encode("utf-16"), content_encoding="UTF-16"),
        TaskMessage(task="t", id="i", args=["ü"]),
    ),
    "protocol 1": (_message(_V1, {}), TaskMessage(task="t", id="i", args=[1, 2], protocol=1)),
    "protocol 1 without arguments": (_message({"task": "t", "id": "i"}, {}), TaskMessage(task="t", id="i", protocol=1)),
    "the hybrid, whose headers win": (
        _message(_V1 | {"retries": 3, "shadow": "s", "task": "x"}, _HEADERS | {"retries": 4}),
        TaskMessage(task="t", id="i", args=[1, 2], retries=4, shadow="s", protocol=1),
    ),
    "Celery 4's group": (
        _message(_V1 | {"taskset": "g", "group": None}, {}),
        TaskMessage(task="t", id="i", args=[1, 2], group="g", protocol=1),
    ),
    "eta in the year 9999": (
        _message(headers=_HEADERS | {"eta": "9999-12-31T23:59:59"}),
        TaskMessage(task="t", id="i", args=[1, 2], eta=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ),
}


@pytest.mark.parametrize("name", _TAKEN)
def test_taken(name: str) -> None:
    content, expected = _TAKEN[name]
    assert decode_task(content) == expected
    assert decode_task(_enveloped(content)) == expected


def test_amqp_values_that_json_lacks() -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5)  # noqa: DTZ001 - an AMQP timestamp comes without a zone
    message = decode_task(_message(headers={"task": b"t", "id": "i", "eta": moment, "x": b"\xff"}))
    assert (message.task, message.eta) == ("t", moment.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        ("x", "no JSON"),
        ("[]", "the envelope must be an object, not list"),
        ("{}", "the envelope has no body"),
        ('{"body": {}}', "the envelope's body must be text"),
        ('{"body": "", "headers": []}', "the envelope's headers must be an object, not list"),
        ('{"body": "", "properties": []}', "the envelope's properties must be an object"),
        ('{"body": "a", "properties": {"body_encoding": "base64"}}', "the body is no base64"),
        ('{"body": "ü", "properties": {"body_encoding": "base64"}}', "the body is no base64"),
        ('{"body": "", "properties": {"body_encoding": "rot13"}}', "unknown body_encoding 'rot13'"),
        ('{"body": "\\udc80", "properties": {}}', "the body is no valid text"),
        ('{"body": "[[], {}, {}]", "headers": {"task": "t\\udc80", "id": "i"}}', "must be printable"),
    ],
)
def test_an_envelope_that_is_none(envelope: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_task(envelope.encode())
    assert reason in str(caught.value)


def test_odd_properties_are_left_out() -> None:
    envelope = json.loads(_enveloped(_message()))
    odd = {"correlation_id": "\udc80", "reply_to": 5, "priority": 1000, "delivery_mode": "x", "expiration": 5000}
    envelope["properties"] |= odd
    assert decode_task(json.dumps(envelope).encode()).properties == Properties(None, None, 255, 2, "5000")
    envelope["properties"] |= {"priority": -1, "delivery_mode": 1, "expiration": []}
    assert decode_task(json.dumps(envelope).encode()).properties == Properties(None, None, 0, 1, None)
    envelope["properties"] |= {"priority": "high", "correlation_id": "c", "reply_to": ""}
    assert decode_task(json.dumps(envelope).encode()).properties == Properties("c", "", None, 1, None)


def test_an_error_never_quotes_arguments() -> None:
    secret = "hunter2" * 3
    for body in ([{"password": secret}, [], {}], [[], {"password": secret}, [secret]], [secret]):
        with pytest.raises(DecodeError) as caught:
            decode_task(_message(body))
        assert secret not in str(caught.value)
