"""Parts of chords, and saved groups, as Celery stores them (canvas.md, 8; results.md, 6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from asyncq.errors import DecodeError
from asyncq.protocol._json import encode_as_celery
from asyncq.protocol._serializers import serializer_named
from asyncq.protocol._stored import decode_stored, frame
from asyncq.protocol._types import DEFAULT_LIMITS, Limits

#: Levels of nesting in a saved group. Each step of a chain takes two, since a member lists all that came before it;
#: deeper than this no decoder goes.
_GROUP_DEPTH = 800


class Part(Struct, frozen=True, kw_only=True):
    """How one header task of a chord ended."""

    task_id: str
    #: SUCCESS, FAILURE or REVOKED.
    state: str
    #: The value; of a failure the described exception (`describe_exception`).
    result: Any  # a user's value: of any type


class SavedGroup(Struct, frozen=True, kw_only=True):
    """A group whose members can be found again. Members are ids of tasks, and groups."""

    group_id: str
    members: Sequence[str | SavedGroup]

    def task_ids(self) -> Iterator[str]:
        """The tasks in order, those of nested groups in their places."""
        for member in self.members:
            if isinstance(member, str):
                yield member
            else:
                yield from member.task_ids()

    def arrange(self, values: Iterator[Any]) -> list[Any]:  # Any: users' values
        """The tasks' values, given in the order of `task_ids`, with a list for each nested group."""
        return [next(values) if isinstance(member, str) else member.arrange(values) for member in self.members]


def encode_part(
    task_id: str,
    state: str,
    result: object,
    *,
    serializer: str = "json",
    compression: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Encode a part as a Celery worker would; in JSON byte for byte, blanks and escapes included, for values that
    Celery has no freedom with (the order of keys is the value's own).

    Workers of both kinds may hand in the same part, and parts of equal place are sorted by their text.

    Raises EncodeError: as `encode_result`.
    """
    part = [1, task_id, state, result]
    if serializer == "json":
        encoded = encode_as_celery(part, limits.max_depth)
    else:
        encoded = serializer_named(serializer).encode(part, limits)
    return frame(encoded, compression, limits)


def decode_part(raw: bytes, *, limits: Limits = DEFAULT_LIMITS, accept: Collection[str] = ("json",)) -> Part:
    """Decode a part, whoever wrote it, or a record that stands for one.

    As for records its first byte says how it was serialised, and `accept` holds the serialisers that may be decoded.

    Raises DecodeError, and nothing else, whatever comes in.
    """
    value = decode_stored(raw, limits, accept)
    if isinstance(value, list | tuple):
        fields = cast("Sequence[Any]", value)
        if len(fields) < 4:
            raise DecodeError("a chord's part must have four fields")
        _, task_id, state, result, *_ = fields
    elif isinstance(value, dict):
        record = cast("dict[Any, Any]", value)
        task_id, state, result = record.get("task_id"), record.get("status"), record.get("result")
    else:
        raise DecodeError(f"a chord's part must be a list, not {type(value).__name__}")
    if not isinstance(task_id, str) or not isinstance(state, str):
        raise DecodeError("a chord's part must name its task and its state")
    return Part(task_id=task_id, state=state, result=result)


def encode_group(
    group: SavedGroup,
    *,
    serializer: str = "json",
    compression: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Encode a group as `GroupResult.save()` of Celery stores it.

    Raises EncodeError: as `encode_result`.
    """
    document = {"result": _to_tuple(group)}
    if serializer == "json":
        encoded = encode_as_celery(document, limits.max_depth)
    else:
        encoded = serializer_named(serializer).encode(document, limits)
    return frame(encoded, compression, limits)


def decode_group(raw: bytes, *, limits: Limits = DEFAULT_LIMITS, accept: Collection[str] = ("json",)) -> SavedGroup:
    """Decode a saved group. What came before its members, chain by chain, is left out.

    Raises DecodeError, and nothing else, whatever comes in.
    """
    value = decode_stored(raw, replace(limits, max_depth=max(limits.max_depth, _GROUP_DEPTH)), accept)
    found = cast("dict[Any, Any]", value).get("result") if isinstance(value, dict) else None
    group = _from_tuple(found, limits.max_depth)
    if isinstance(group, str):
        raise DecodeError("a saved group must have a list of members")
    return group


def _to_tuple(result: str | SavedGroup) -> list[Any]:  # Any: ids, None and lists of the same
    if isinstance(result, str):
        return [[result, None], None]
    return [[result.group_id, None], [_to_tuple(member) for member in result.members]]


def _from_tuple(found: object, depth: int) -> str | SavedGroup:
    """Read `[[id, parent], members]`; `depth` is how many groups may stand in each other."""
    pair = cast("Sequence[object]", found) if isinstance(found, list | tuple) else ()
    if len(pair) != 2:
        raise DecodeError("no result tuple")
    head, members = pair
    own_id = next(iter(cast("Sequence[object]", head)), None) if isinstance(head, list | tuple) else head
    if not isinstance(own_id, str):
        raise DecodeError("a result tuple without an id")
    if members is None:
        return own_id
    if not isinstance(members, list | tuple) or not depth:
        raise DecodeError("no result tuple, or groups too deep in each other")
    each = cast("Sequence[object]", members)
    return SavedGroup(group_id=own_id, members=[_from_tuple(member, depth - 1) for member in each])
