"""A call of a task, before it is a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack, cast

from msgspec import Struct
from msgspec.structs import replace

from asyncq._definition import TaskOptions
from asyncq.canvas import Links, Sending

__all__ = ["NO_OPTIONS", "Call", "CallOptions", "SendOptions", "call_of", "call_options"]

# `Any` below: arguments and headers are the caller's.


class SendOptions(TypedDict, total=False):
    """What can be said of one call, in Celery's words. None means "not said"."""

    #: Seconds from now before which it doesn't run.
    countdown: float | None
    #: Instant before which it doesn't run; without a time zone it is UTC.
    eta: datetime | None
    #: Seconds from now, or the instant, after which it is not run any more.
    expires: float | timedelta | datetime | None
    queue: str | None
    exchange: str | None
    routing_key: str | None
    #: 0 to 255. Which end is served first depends on the broker.
    priority: int | None
    #: An id of your own: any text that no other task has.
    task_id: str | None
    #: Any text: of two sends of a task with the same key within a day, the second gets the handle of the first. A task
    #: that is unique takes none.
    idempotency_key: str | None
    #: Headers of your own, beside the protocol's.
    headers: Mapping[str, Any] | None
    #: Store neither a value nor a state.
    ignore_result: bool | None
    #: Short name of a content type (`json`, `msgpack`).
    serializer: str | None
    #: Short name of a compression (`zlib`, `bz2`, …).
    compression: str | None
    #: Seconds, as for tasks; they can only lower what the task itself has.
    soft_time_limit: float | None
    time_limit: float | None
    #: Name to show in logs and monitors instead of the task's.
    shadow: str | None
    #: SQS: messages of one group come in order from a FIFO queue, and get their fair share of any other queue.
    message_group_id: str | None
    #: SQS: of two sends with the same text within five minutes, a FIFO queue drops the second.
    message_deduplication_id: str | None


class CallOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The same, as asyncq carries it."""

    countdown: float | None = None
    eta: datetime | None = None
    expires: float | timedelta | datetime | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    task_id: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, Any] | None = None
    ignore_result: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    soft_time_limit: float | None = None
    time_limit: float | None = None
    shadow: str | None = None
    message_group_id: str | None = None
    message_deduplication_id: str | None = None

    def given(self) -> dict[str, Any]:
        """What was said, by name."""
        if self is NO_OPTIONS:
            return {}
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


NO_OPTIONS = CallOptions()


class Call(Struct, frozen=True):
    """A task's name, its arguments, and how it is to be sent."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: CallOptions = NO_OPTIONS
    #: The task's own options; None for a task that this app doesn't know.
    task: TaskOptions | None = None
    #: Its place in a canvas; None for a call that stands alone.
    links: Links | None = None
    #: The task by whose name it is routed, where that isn't the name of the message's own.
    routed_as: str | None = None


def call_options(**options: Unpack[SendOptions]) -> CallOptions:
    """Read a call's options. Raises TypeError for a name that is none, ValueError for a value that can't be meant."""
    if not options:
        return NO_OPTIONS
    unknown = options.keys() - set(CallOptions.__struct_fields__)
    if unknown:
        raise TypeError(f"unknown options of a call: {', '.join(sorted(unknown))}")
    read = CallOptions(**options)
    if read.priority is not None and not 0 <= read.priority <= 255:
        raise ValueError(f"priority must be from 0 to 255, not {read.priority}")
    eta = cast("object", read.eta)
    if eta is not None and not isinstance(eta, datetime):
        raise TypeError(f"eta must be a datetime, not {type(eta).__name__}; countdown is for seconds")
    return read


#: Tasks that run another one, which they name.
_CARRIERS = frozenset({"celery.map", "celery.starmap", "celery.chunks"})


def call_of(sending: Sending, options_of: Callable[[str], TaskOptions | None]) -> Call:
    """The call of a message that a canvas has planned; `options_of` knows the options of the app's own tasks.

    Options of Celery's that mean nothing here are left out. Raises TypeError and ValueError for values that can't be
    meant.
    """
    known = {name: value for name, value in sending.options.items() if name in CallOptions.__struct_fields__}
    options = call_options(**known, task_id=sending.task_id)
    carried = sending.kwargs.get("task") if sending.task in _CARRIERS else None
    if not isinstance(carried, Mapping):
        return Call(sending.task, tuple(sending.args), sending.kwargs, options, options_of(sending.task), sending.links)
    name = str(cast("Mapping[str, Any]", carried).get("task"))
    task = options_of(name)
    if task is not None:
        task = replace(task, unique=None)  # the arguments are others
    return Call(sending.task, tuple(sending.args), sending.kwargs, options, task, sending.links, routed_as=name)
