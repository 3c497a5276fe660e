"""From what the planner says is to be sent to messages, made as any send of the app makes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, cast

from msgspec.structs import replace

from asyncq._call import call_of
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq._producer import Producer
from asyncq.canvas import Sending
from asyncq.driver import Publication

logger = logging.getLogger("asyncq.worker")

# `Any` below: options of a signature, which anybody may have written.

#: Options of Celery's that say nothing to a broker's driver of asyncq's: it retries by a policy of its own, and every
#: message is persistent.
_NOTHING_TO_US = frozenset({"retry", "retry_policy", "delivery_mode", "mandatory", "immediate"})


class Mailer:
    """Makes messages of sendings: routes, priorities, serialisers and headers as the app's settings say."""

    def __init__(self, producer: Producer, tasks: Mapping[str, TaskDefinition]) -> None:
        self._producer = producer
        self._tasks = tasks
        #: Names of options that were told of.
        self._told: set[str] = set()

    def publication(self, sending: Sending, *, headers: Mapping[str, Any] | None = None) -> Publication:
        """The message, with more `headers` than the signature names.

        An option that asyncq does not know, or whose value can't be meant, costs one warning a name. Raises EncodeError
        for arguments that can't travel, ConfigurationError for a queue that isn't there.
        """
        given = self._readable(sending)
        if headers is not None:
            given["headers"] = {**(given.get("headers") or {}), **headers}
        return self._producer.prepare(call_of(replace(sending, options=given), self._options_of)).publication

    def _options_of(self, task: str) -> TaskOptions | None:
        """A link is never dropped for being there twice: what counts on it would wait for ever."""
        definition = self._tasks.get(task)
        if definition is None:
            return None
        options = definition.options
        return options if options.unique is None else replace(options, unique=None)

    def _readable(self, sending: Sending) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, value in sending.options.items():
            if name in _NOTHING_TO_US:
                continue
            try:
                read[name] = _READERS.get(name, _unknown)(value)
            except (TypeError, ValueError, OverflowError):
                self._tell(name, sending)
        return read

    def _tell(self, name: str, sending: Sending) -> None:
        if name not in self._told:
            self._told.add(name)
            logger.warning(
                "A signature of %s has the option %r, which asyncq can't honour: left out, here and from now on",
                sending.task,
                name,
                extra={"task": sending.task, "task_id": sending.task_id},
            )


def _unknown(_value: object) -> NoReturn:
    raise ValueError


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    timedelta(seconds=value)  # a number that no date can be reckoned with
    return value


def _flag(value: object) -> bool:
    return bool(value)


def _moment(value: object) -> datetime:
    """Celery writes dates into signatures as text, or with a marker that makes them dates again."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _expiry(value: object) -> float | timedelta | datetime:
    if isinstance(value, timedelta):
        return value
    return _moment(value) if isinstance(value, str | datetime) else _seconds(value)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise TypeError
    return value


def _headers(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(cast("Mapping[str, Any]", value))


_READERS: Mapping[str, Callable[[object], Any]] = {
    "countdown": _seconds,
    "eta": _moment,
    "expires": _expiry,
    "queue": _text,
    "exchange": _text,
    "routing_key": _text,
    "priority": _priority,
    "headers": _headers,
    "ignore_result": _flag,
    "serializer": _text,
    "compression": _text,
    "soft_time_limit": _seconds,
    "time_limit": _seconds,
    "shadow": _text,
    "message_group_id": _text,
    "message_deduplication_id": _text,
}
