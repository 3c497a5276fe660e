"""The tasks that an app declares, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from asyncq._definition import TaskOptions
from asyncq._task import Task
from asyncq.errors import ConfigurationError

__all__ = ["TaskRegistry"]

# `Any` below: what a task takes and returns is of no concern here.


class TaskRegistry:
    """Names are unique, but for a module that is imported again."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        #: A view of all tasks.
        self.view: Mapping[str, Task[..., Any]] = MappingProxyType(self._tasks)

    def add(self, task: Task[..., Any]) -> None:
        """Raises ConfigurationError for a name that another function has."""
        known = self._tasks.get(task.name)
        if known is not None and not _is_reloaded(known.definition.fn, task.definition.fn):
            raise ConfigurationError(
                f"two tasks are called {task.name!r}: {_place(known.definition.fn)} and {_place(task.definition.fn)}; "
                "give one of them a name="
            )
        self._tasks[task.name] = task

    def options_of(self, name: str) -> TaskOptions | None:
        """None for a task that is not declared here."""
        task = self._tasks.get(name)
        return None if task is None else task.definition.options


def _is_reloaded(known: Callable[..., Any], fn: Callable[..., Any]) -> bool:
    """The same function of the same file, which was imported again."""
    return (known.__module__, known.__qualname__) == (fn.__module__, fn.__qualname__) and _file(known) == _file(fn)


def _file(fn: Callable[..., Any]) -> str | None:
    code = getattr(fn, "__code__", None)
    return None if code is None else code.co_filename


def _place(fn: Callable[..., Any]) -> str:
    return f"{fn.__module__}.{fn.__qualname__}"
