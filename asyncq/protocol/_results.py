"""Records of result backends (results.md, section 2)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._json import encode_json, encode_text
from asyncq.protocol._serializers import serializer_named
from asyncq.protocol._stored import decode_stored, frame
from asyncq.protocol._times import format_time, parse_time
from asyncq.protocol._types import DEFAULT_LIMITS, Limits, ResultRecord

#: States that a task doesn't leave.
READY_STATES = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

_FIELDS = frozenset(
    {"status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id"}
)  # fmt: skip


def encode_result(
    record: ResultRecord,
    *,
    serializer: str = "json",
    compression: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Encode a record as Celery stores it.

    Guaranteed for JSON without compression: the fields stand in Celery's order, with its separators (`", "`, `": "`)
    between them, so that a record of SUCCESS begins with the bytes `{"status": "SUCCESS", "result": `. Not guaranteed:
    how blanks stand inside the values.

    Raises EncodeError: a value that has no encoding, a record beyond `limits`, an unknown serialiser or compression.
    """
    if not _FIELDS.isdisjoint(record.extra):
        raise EncodeError(f"extra fields that a record has anyway: {', '.join(_FIELDS.intersection(record.extra))}")
    if serializer == "json":
        encoded = _encode_json(record, limits.max_depth - 1)
    else:
        encoded = serializer_named(serializer).encode(_fields(record), limits)
    return frame(encoded, compression, limits)


def decode_result(raw: bytes, *, limits: Limits = DEFAULT_LIMITS, accept: Collection[str] = ("json",)) -> ResultRecord:
    """Decode a record, of Celery's workers or others (clients.md, 29 and 31).

    A record doesn't say how it was serialised: its first byte does. `accept` holds the serialisers that may be decoded.
    What other workers put where Celery has text, an array or a time is left out.

    Raises DecodeError, and nothing else, whatever comes in.
    """
    value = decode_stored(raw, limits, accept)
    if not isinstance(value, dict):
        raise DecodeError(f"a record must be an object, not {type(value).__name__}")
    return _to_record(cast("dict[Any, Any]", value))


def _encode_json(record: ResultRecord, depth: int) -> bytes:
    parts = [
        b'{"status": ',
        encode_text(record.status),
        b', "result": ',
        encode_json(record.result, depth),
        b', "traceback": ',
        b"null" if record.traceback is None else encode_text(record.traceback),
        b', "children": ',
        encode_json(record.children, depth),
        b', "date_done": ',
        b"null" if record.date_done is None else b'"%b"' % format_time(record.date_done).encode("ascii"),
    ]
    if record.group_id is not None:
        parts += (b', "group_id": ', encode_text(record.group_id))
    if record.parent_id is not None:
        parts += (b', "parent_id": ', encode_text(record.parent_id))
    for name, value in record.extra.items():
        parts += (b", ", encode_text(name), b": ", encode_json(value, depth))
    parts += (b', "task_id": ', encode_text(record.task_id), b"}")
    return b"".join(parts)


def _fields(record: ResultRecord) -> dict[str, Any]:  # values of the user's types among them
    fields: dict[str, Any] = {
        "status": record.status,
        "result": record.result,
        "traceback": record.traceback,
        "children": record.children,
        "date_done": None if record.date_done is None else format_time(record.date_done),
    }
    if record.group_id is not None:
        fields["group_id"] = record.group_id
    if record.parent_id is not None:
        fields["parent_id"] = record.parent_id
    return {**fields, **record.extra, "task_id": record.task_id}


def _to_record(fields: dict[Any, Any]) -> ResultRecord:
    status, task_id = fields.pop("status", None), fields.pop("task_id", None)
    if not isinstance(status, str):
        raise DecodeError("a record must have a status")
    if not isinstance(task_id, str):
        raise DecodeError("a record must have a task_id")
    children = fields.pop("children", None)
    return ResultRecord(
        task_id=task_id,
        status=status,
        result=fields.pop("result", None),
        traceback=_text(fields.pop("traceback", None)),
        children=cast("list[Any]", children) if isinstance(children, list) else None,
        date_done=_time(fields.pop("date_done", None)),
        group_id=_text(fields.pop("group_id", None)),
        parent_id=_text(fields.pop("parent_id", None)),
        extra={str(name): value for name, value in fields.items()},
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value, "date_done")
    except DecodeError:
        return None
