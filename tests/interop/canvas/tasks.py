"""The tasks of the canvases, and the notes that workers of both kinds make of what they run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from redis_kit import Client

# `Any` below: arguments and results of tasks.


def add(x: int, y: int = 0) -> int:
    return x + y


def mul(x: int, y: int) -> int:
    return x * y


def total(numbers: list[int]) -> int:
    return sum(numbers)


def echo(*args: Any, **kwargs: Any) -> list[Any]:
    return [*args, kwargs] if kwargs else [*args]


def fail(*args: Any) -> None:
    raise ValueError("boom", 1)


def by_id(task_id: str) -> None:
    """An errback of the old style."""


def by_id_and_note(task_id: str, note: str) -> None:
    """Another one, for it has but one argument left."""


#: Those that need nothing of their worker.
TASKS: Sequence[Callable[..., Any]] = (add, mul, total, echo, fail, by_id, by_id_and_note)


class Note(NamedTuple):
    """One call of a task."""

    #: A task of the same canvas that its client knows.
    root: str
    #: None of what was called without a run of its own.
    task_id: str | None
    #: Name and arguments.
    call: Sequence[Any]
    #: The kind of worker.
    worker: str


class Notes:
    """A line for each call of a task; all workers of a test write into one list."""

    def __init__(self, redis: Client, worker: str = "") -> None:
        """`worker` is the kind that writes."""
        self._redis = redis
        self._worker = worker

    def ran(self, task_id: str, root: str, name: str, args: Any, kwargs: Any, stamps: Mapping[str, Any]) -> None:
        """A worker begins with a task; `root` is one that the client knows."""
        self._write(
            root, task_id, [name, *_shown(args), *filter(None, [_shown(kwargs), stamps and {"stamps": stamps}])]
        )

    def told(self, request: Any, name: str, *args: Any) -> None:
        """A worker calls an errback, which is no run of a task, for a failed request."""
        self._write(request.root_id or request.id, None, [name, request.id, *args])

    def read(self) -> list[Note]:
        return [Note(*json.loads(line)) for line in self._redis.lrange("notes", 0, -1)]

    def _write(self, root: str, task_id: str | None, call: Sequence[Any]) -> None:
        self._redis.rpush("notes", json.dumps([root, task_id, call, self._worker]))


def errbacks(notes: Notes) -> Sequence[Callable[..., Any]]:
    """Errbacks of the new style: no runs of a task, so that they make their notes themselves."""

    def at_once(request: Any, exc: Exception, traceback: str | None) -> None:
        notes.told(request, "at_once", repr(exc), type(traceback).__name__)

    def at_once_and_note(request: Any, exc: Exception, traceback: str | None, note: str) -> None:
        notes.told(request, "at_once_and_note", repr(exc), note)

    return at_once, at_once_and_note


def _shown(value: Any) -> Any:
    """Signatures by their names: what the libraries write into them besides differs."""
    if isinstance(value, Mapping):
        if "subtask_type" in value:
            return f"<{value['task']}>"
        return {name: _shown(each) for name, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value
