"""The headers of a task message: which there are, and their values made sure of (messages.md, section 3).

Two ways lead to `TaskHeaders`. The typed one, by msgspec, takes what Celery sends and refuses all else. The lenient one
looks at each value, lets pass what is odd and harmless (missing, null, bytes for text, a number for a flag), and says
of anything else what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

from asyncq.errors import DecodeError
from asyncq.protocol._types import TaskMessage

#: Headers that protocol 2 gives a meaning. The user's own may not take these names.
PROTOCOL_HEADERS = frozenset(
    {
        "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
        "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
        "stamps", "compression",
    }
)  # fmt: skip

#: Our own notice on a dead letter: why, when, after how many attempts, from which queue.
DEAD_HEADER = "asyncq-dead"

#: Our own note on a message that a worker didn't know the task of: {"looks": number, "waited": seconds}.
UNKNOWN_HEADER = "asyncq-unknown"

#: Our own name of one sending of a chord's body: a body that is sent again under another name has started before.
DISPATCH_HEADER = "asyncq-dispatch"

#: Our own note on the message of a task that was lost with its worker: what it has failed with, as JSON.
LOST_HEADER = "asyncq-lost"

#: What brokers and workers note on a message about its way so far. None of it belongs on the next attempt's message:
#: RabbitMQ would see a cycle in `x-death` and drop the message.
TRANSPORT_HEADERS = frozenset(
    {
        "redelivered", "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
        "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason", "x-delivery-count", DEAD_HEADER,
        UNKNOWN_HEADER, LOST_HEADER,
    }
)  # fmt: skip

NO_TASK = "no task's message: neither a header 'task' nor a body with one"

_MAX_TASK_NAME = 255
_MAX_ID = 512
_MAX_COUNT = 2**31 - 1  # what AMQP's int32 holds
_MAX_SECONDS = 10**10  # three centuries; an integer of any size would fail as a float somewhere

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=_MAX_COUNT)]
_Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=_MAX_SECONDS)] | Annotated[float, Meta(ge=0, le=_MAX_SECONDS)]


class TaskHeaders(Struct):
    """Checked headers of protocol 2, and the fields of a protocol 1 body under the same names."""

    task: str | None = None
    id: str | None = None
    lang: str | None = None
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: _Count | None = None
    retries: _Count | None = None
    timelimit: tuple[_Seconds | None, _Seconds | None] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: _Count | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    compression: str | None = None
    redelivered: bool | None = None
    dispatch: str | None = msgspec.field(default=None, name=DISPATCH_HEADER)
    lost: str | None = msgspec.field(default=None, name=LOST_HEADER)


def read_headers(found: Mapping[str, Any]) -> TaskHeaders:
    """Headers that are a mapping already: as AMQP, or a protocol 1 body, has them. Raises DecodeError."""
    try:
        headers = msgspec.convert(found, TaskHeaders)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the second for a lone surrogate where a number should be
        return _read_leniently(found)
    if headers.timelimit is not None:
        headers.timelimit = _limits(headers.timelimit)  # msgspec lets NaN pass
    return headers


def fault_of_names(message: TaskHeaders | TaskMessage) -> str | None:
    """What is wrong with the task's name or one of the ids, if anything.

    They become keys in stores and words in logs, so all must be short and printable.
    """
    task = message.task
    if not task:
        return NO_TASK
    if len(task) > _MAX_TASK_NAME or not task.isprintable():
        return f"the task's name must be printable and at most {_MAX_TASK_NAME} characters: {task!r:.80}"
    if not message.id:
        return f"the message for task {task} has no id"
    for found in (message.id, message.root_id, message.parent_id, message.group):
        if found is not None and (len(found) > _MAX_ID or not found.isprintable()):
            return f"ids must be printable and at most {_MAX_ID} characters: {found!r:.80}"
    return None


def _read_leniently(found: Mapping[str, Any]) -> TaskHeaders:
    return TaskHeaders(
        task=_text(found, "task"),
        id=_text(found, "id"),
        lang=_note(found, "lang"),
        shadow=_note(found, "shadow"),
        eta=_time_text(found, "eta"),
        expires=_time_text(found, "expires"),
        group=_text(found, "group"),
        group_index=_count(found, "group_index"),
        retries=_count(found, "retries"),
        timelimit=_limits(found.get("timelimit")),
        root_id=_text(found, "root_id"),
        parent_id=_text(found, "parent_id"),
        argsrepr=_note(found, "argsrepr"),
        kwargsrepr=_note(found, "kwargsrepr"),
        origin=_note(found, "origin"),
        ignore_result=_flag(found, "ignore_result"),
        replaced_task_nesting=_count(found, "replaced_task_nesting"),
        stamped_headers=_stamped(found.get("stamped_headers")),
        stamps=_stamps(found.get("stamps")),
        compression=_text(found, "compression"),
        redelivered=found.get("redelivered") is True,
        dispatch=_note(found, DISPATCH_HEADER),
        lost=_note(found, LOST_HEADER),
    )


def _wrong(name: str, wanted: str, value: object) -> DecodeError:
    return DecodeError(f"header {name} must be {wanted}, not {type(value).__name__}")


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value: object = found.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, str):
            value.encode("utf-8")  # a lone surrogate would fail later, in a key or a log
            return value
    except UnicodeError as exc:
        raise DecodeError(f"header {name} is no valid text") from exc
    raise _wrong(name, "text", value)


def _note(found: Mapping[str, Any], name: str) -> str | None:
    """Text that people read and nothing depends on."""
    try:
        return _text(found, name)
    except DecodeError:
        return None


def _time_text(found: Mapping[str, Any], name: str) -> str | None:
    value: object = found.get(name)  # AMQP and YAML have times of their own
    return value.isoformat() if isinstance(value, datetime) else _text(found, name)


def _count(found: Mapping[str, Any], name: str) -> int | None:
    value: object = found.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, "an integer", value)
    if not 0 <= value <= _MAX_COUNT:
        raise DecodeError(f"header {name} is out of range")
    return value


def _flag(found: Mapping[str, Any], name: str) -> bool | None:
    value: object = found.get(name)
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise _wrong(name, "true or false", value)


def _limits(value: object) -> tuple[int | float | None, int | float | None] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _wrong("timelimit", "an array", value)
    pair = cast("list[object]", value)
    if len(pair) != 2:  # kills a Celery worker
        raise DecodeError(f"header timelimit must hold two items, hard and soft, not {len(pair)}")
    return _seconds(pair[0]), _seconds(pair[1])


def _seconds(value: object) -> int | float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong("timelimit", "seconds", value)
    if not 0 <= value <= _MAX_SECONDS:
        raise DecodeError("header timelimit is out of range")
    return value


def _stamped(value: object) -> list[str] | None:
    if not isinstance(value, list | tuple):
        return None
    return [name for name in cast("list[object]", value) if isinstance(name, str)]


def _stamps(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {name: stamp for name, stamp in cast("dict[object, Any]", value).items() if isinstance(name, str)}
