"""Result records, captured and our own."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

import golden
from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import READY_STATES, Limits, ResultRecord, decode_result, encode_result
from values import records, same

_SAFE = ("json", "msgpack", "yaml")
_FIELDS = ("status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id")

_STORED = [
    (name, task_id)
    for name in golden.names("results")
    for task_id in golden.stored_records(name)
    if "pickle" not in name
]


def _check(raw: bytes, record: ResultRecord, fields: dict[str, Any]) -> None:
    assert record.status == fields["status"]
    assert record.task_id == fields["task_id"]
    assert record.traceback == fields["traceback"]
    assert record.children == fields["children"]
    assert (record.group_id, record.parent_id) == (fields.get("group_id"), fields.get("parent_id"))
    assert record.extra == {name: value for name, value in fields.items() if name not in _FIELDS}
    assert (record.date_done and record.date_done.isoformat()) == (fields["date_done"] and _utc(fields["date_done"]))
    assert record.status in READY_STATES or record.date_done is None
    # and back: the same fields in the same order, whatever JSON had them
    again = json.loads(encode_result(record))
    assert list(again) == list(fields) or not raw.startswith(b"{")
    assert decode_result(encode_result(record)) == record


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


@pytest.mark.parametrize(("name", "task_id"), _STORED)
def test_a_captured_record_decodes_to_what_was_stored(name: str, task_id: str) -> None:
    raw = golden.stored_records(name)[task_id]
    record = decode_result(raw, accept=_SAFE)
    assert record.task_id == task_id
    if raw.startswith(b"{") and b"__type__" not in raw:
        fields = json.loads(raw)
        _check(raw, record, fields)
        assert same(record.result, fields["result"])


@pytest.mark.parametrize("name", [name for name in golden.names("redis") if golden.redis_records(name)])
def test_records_captured_on_redis(name: str) -> None:
    for raw in golden.redis_records(name):
        _check(raw, decode_result(raw), json.loads(raw))


@pytest.mark.parametrize("name", [name for name in golden.names("results") if name.startswith("rpc-")])
def test_a_record_that_came_as_a_message(name: str) -> None:
    raw = base64.b64decode(golden.load("results", name)["body_base64"])
    _check(raw, decode_result(raw), json.loads(raw))


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("success-yaml", [[1, [2.5, None]], {}]),
        ("success-msgpack", [[1, [2.5, None]], {}]),
        ("success-compressed", [["x" * 300], {}]),
    ],
)
def test_records_that_are_no_plain_json(name: str, result: object) -> None:
    [(task_id, raw)] = golden.stored_records(name).items()
    record = decode_result(raw, accept=_SAFE)
    assert (record.task_id, record.status, record.result, record.children) == (task_id, "SUCCESS", result, [])


def test_celerys_types_in_a_record() -> None:
    [raw] = golden.stored_records("success-extended-json").values()
    assert json.loads(raw)["result"] != decode_result(raw).result
    [raw] = golden.stored_records("failure-nested").values()
    assert decode_result(raw).result["exc_message"][3:5] == [datetime(2030, 1, 2, 3, 4, 5), b"\xff\x00"]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("name", "serializer"), [("success-pickle", "pickle"), ("success-yaml", "yaml"), ("success-msgpack", "msgpack")]
)
def test_a_record_is_decoded_only_as_the_app_allows(name: str, serializer: str) -> None:
    [raw] = golden.stored_records(name).values()
    with pytest.raises(DecodeError, match=rf"\({serializer}\) is not accepted"):
        decode_result(raw)
    assert decode_result(raw, accept=[serializer]).status == "SUCCESS"


@settings(max_examples=100, deadline=None)
@given(record=records)
def test_a_record_comes_back_as_it_was(record: ResultRecord) -> None:
    for compression in (None, "zlib"):
        again = decode_result(encode_result(record, compression=compression))
        assert replace(again, result=0, extra={}) == replace(record, result=0, extra={})
        assert same(again.result, record.result)
        assert same(again.extra, record.extra)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_a_record_by_each_serializer(serializer: str) -> None:
    record = ResultRecord(
        task_id="i",
        status="SUCCESS",
        result={"a": [1, None, "ü"]},
        children=[],
        date_done=datetime(2030, 1, 2, tzinfo=UTC),
        group_id="g",
        parent_id="p",
        extra={"name": "t"},
    )
    for compression in (None, "gzip"):
        raw = encode_result(record, serializer=serializer, compression=compression)
        assert decode_result(raw, accept=[serializer]) == record


def test_a_record_is_celerys_to_the_byte_around_its_values() -> None:
    record = ResultRecord(
        task_id="i",
        status="SUCCESS",
        result=4,
        children=[],
        date_done=datetime(2026, 11, 21, 9, 36, 34, 725120, tzinfo=UTC),
        group_id="g",
        parent_id="p",
        extra={"name": "t"},
    )
    assert encode_result(record) == (
        b'{"status": "SUCCESS", "result": 4, "traceback": null, "children": [], '
        b'"date_done": "2026-11-21T09:36:34.725120+00:00", "group_id": "g", "parent_id": "p", "name": "t", '
        b'"task_id": "i"}'
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "a record must be an object, not NoneType"),
        (b"{", "no JSON"),
        (b"[]", "a record must be an object"),
        (b'{"task_id": "i"}', "must have a status"),
        (b'{"status": null, "task_id": "i"}', "must have a status"),
        (b'{"status": "SUCCESS"}', "must have a task_id"),
        (b"\x00celery-compressed\x00", "unknown compression ''"),
        (b"\x00celery-compressed\x00application/x-bz2\x00x", "compression bzip2 is not allowed"),
        (b"\x00celery-compressed\x00application/x-gzip\x00xxx", "corrupt zlib data"),
        (b'{"status": "SUCCESS", "task_id": "i", "result": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper"),
    ],
)
def test_what_is_no_record_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_result(raw, accept=_SAFE)
    assert reason in str(caught.value)


def test_a_record_that_no_reader_takes_is_refused_at_the_writer() -> None:
    record = ResultRecord(task_id="i", status="SUCCESS")
    with pytest.raises(EncodeError, match="extra fields that a record has anyway: status"):
        encode_result(replace(record, extra={"status": "FAILURE"}))
    with pytest.raises(EncodeError, match="takes 1107 bytes, 1000 are allowed"):
        encode_result(replace(record, result="x" * 1000), limits=Limits(max_message_bytes=1000))
    nested: list[Any] = []
    for _ in range(63):
        nested = [nested]
    with pytest.raises(EncodeError, match="nested"):
        encode_result(replace(record, result=nested))
    assert decode_result(encode_result(replace(record, result=nested[0]))).result == nested[0]
    with pytest.raises(EncodeError, match="unknown serializer"):
        encode_result(record, serializer="xml")
    with pytest.raises(EncodeError, match="unknown compression"):
        encode_result(record, compression="rar")
