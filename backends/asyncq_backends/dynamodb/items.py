"""Celery's items: one a result (dynamodb.md, section 3)."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from asyncq.driver import StoredResult
from asyncq.errors import BackendError

__all__ = ["MAX_RECORD_BYTES", "Item", "item_id", "record_item", "record_of", "result_item"]

#: An item as the API has it: attribute -> {type: value}.
Item: TypeAlias = dict[str, Any]

#: An item takes 400 KB, its names and its id included.
_MAX_ITEM_BYTES = 400 * 1024
MAX_RECORD_BYTES = _MAX_ITEM_BYTES - 1024


def item_id(key: str) -> Item:
    """The partition key: the Python text of a bytes object, `b` and quotes included, as Celery writes it."""
    return {"S": str(key.encode())}


def result_item(key: str, result: StoredResult, now: float, ttl_seconds: int | None) -> Item:
    """A result's item at a UNIX time. Raises BackendError for one that is too large."""
    if len(result.record) + len(key) > _MAX_ITEM_BYTES - 512:
        raise BackendError(
            f"the result of task {result.task_id} has {len(result.record):,} bytes, and an item of DynamoDB takes "
            f"{MAX_RECORD_BYTES:,}: return less, compress results, or keep them elsewhere (s3://)"
        )
    return record_item(key, result.record, result.expires, now, ttl_seconds)


def record_item(key: str, record: bytes, expires: float | None, now: float, ttl_seconds: int | None) -> Item:
    """The item of any record. `ttl_seconds` is the URL's word, which wins over the record's own."""
    item: Item = {"id": item_id(key), "result": {"B": record}, "timestamp": {"N": repr(now)}}
    seconds = expires if ttl_seconds is None else ttl_seconds
    if seconds is not None and seconds >= 0:
        item["ttl"] = {"N": str(math.ceil(now + seconds))}
    return item


def record_of(item: Item | None, now: float) -> bytes | None:
    """The record of an item; None for one that has expired, or is no result. DynamoDB deletes days later."""
    if item is None or "result" not in item:
        return None
    if "ttl" in item and float(item["ttl"]["N"]) <= now:
        return None
    value = item["result"]
    return bytes(value["B"]) if "B" in value else str(value.get("S", "")).encode()
