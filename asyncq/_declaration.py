"""Declaring a task: what `@queue.task` takes, and what it makes of a function."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import PurePath
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, Protocol, TypedDict, TypeVar, overload

import msgspec

from asyncq._argument_keys import KeySpec
from asyncq._context import Context
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq._parameters import takes_context
from asyncq._rates import parse_rate
from asyncq._task import AsyncTask, SyncTask
from asyncq._unique import Unique, compile_unique

__all__ = ["Anything", "DeclaredOptions", "TaskDecorator", "define", "read_options"]

P = ParamSpec("P")
R = TypeVar("R")

# `Any` below: a coroutine's send and yield types, which asyncq never uses, and the functions of users.


class Anything:
    """Nobody can name this class, so only a parameter that takes anything accepts it: unannotated, Any, object.

    A function whose first parameter does would also match `Concatenate[Context, P]` and lose that parameter. An
    overload on this class, tried first, gives up checking such a function instead of checking it wrongly.
    """


class DeclaredOptions(TypedDict, total=False):
    """A task's own settings; `TaskOptions` says what each means. None, where it is allowed: as the app says."""

    #: Default: `<module>.<qualified name>`.
    name: str | None
    queue: str | None
    priority: int | None
    serializer: str | None
    compression: str | None
    expires: float | None
    ignore_result: bool | None
    store_errors_even_if_ignored: bool | None
    track_started: bool | None
    acks_late: bool | None
    acks_on_failure_or_timeout: bool | None
    #: Seconds.
    soft_time_limit: float | None
    time_limit: float | None
    #: Of a `def` task.
    executor: Literal["thread", "process"]
    #: Calls a second, or `"10/s"`, `"10/m"`, `"10/h"`.
    rate_limit: str | float | None
    limit_scope: Literal["worker", "fleet"]
    limit_key: KeySpec | None
    max_running: int | None
    #: True: by all arguments, until it has ended.
    unique: Unique | bool | None
    throws: Sequence[type[Exception]]
    max_retries: int | None
    retry_on: Sequence[type[Exception]]
    dont_retry_on: Sequence[type[Exception]]
    #: Seconds; True means 1.
    retry_backoff: float
    retry_backoff_max: float
    retry_jitter: bool


class TaskDecorator(Protocol):
    """What `queue.task(…)` with options returns."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]  # a coroutine function is a function too: first match
        self, fn: Callable[Concatenate[Anything, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[..., R]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]  # a coroutine function is a function too: first match
        self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Anything, P], R], /) -> SyncTask[..., R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


#: Celery's options that asyncq spells differently -> what to write.
_SPELLED_DIFFERENTLY = {
    "bind": "annotate the first parameter with asyncq.Context instead",
    "autoretry_for": "it is called retry_on",
    "dont_autoretry_for": "it is called dont_retry_on",
    "default_retry_delay": "it is called retry_backoff",
    "retry_kwargs": "give max_retries and retry_backoff instead",
    "typing": "the type checker and the worker check arguments; leave it out",
    "pydantic": "arguments are always validated by pydantic; leave it out",
}


class Declared(NamedTuple):
    """What was said of a task before its function is known."""

    name: str | None
    unique: Unique | bool | None
    options: TaskOptions


def read_options(options: dict[str, Any]) -> Declared:
    """Read a task's options. Raises TypeError for names that are none, ValueError for values."""
    known = DeclaredOptions.__annotations__
    for option in options:
        if option in _SPELLED_DIFFERENTLY:
            raise TypeError(f"task option {option!r}: {_SPELLED_DIFFERENTLY[option]}")
        if option not in known:
            raise TypeError(f"unknown task option {option!r}; there are {', '.join(known)}")
    given = dict(options)
    name = given.pop("name", None)
    for option in ("retry_on", "dont_retry_on", "throws"):
        if option in given:
            given[option] = _exceptions(option, given[option])
    backoff = given.get("retry_backoff", 1.0)
    if backoff is False:
        raise ValueError("retry_backoff: asyncq always waits between retries; give the seconds before the first one")
    given["retry_backoff"] = 1.0 if backoff is True else float(backoff)
    soft, hard = given.get("soft_time_limit"), given.get("time_limit")
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(f"soft_time_limit ({soft:g}) must not be above time_limit ({hard:g})")
    priority = given.get("priority")
    if priority is not None and not 0 <= priority <= 255:
        raise ValueError(f"priority must be from 0 to 255, not {priority}")
    parse_rate(given.get("rate_limit"))
    most = given.get("max_running")
    if most is not None and most < 1:
        raise ValueError(f"max_running must be at least 1, not {most}")
    unique = given.pop("unique", None)
    return Declared(name, unique, TaskOptions(**given))


def define(fn: Callable[..., Any], declared: Declared) -> TaskDefinition:
    """What a worker and a sender need to know of a function. Raises TypeError for what is no function of the module."""
    options = declared.options
    if not inspect.isroutine(fn):
        raise TypeError(f"a task is made of a function, not of {fn!r}")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{fn.__qualname__} is a generator: a task returns its result, it doesn't yield it")
    is_coroutine = inspect.iscoroutinefunction(fn)
    if is_coroutine and options.executor == "process":
        raise TypeError(f"{fn.__qualname__} is a coroutine function, which runs on the loop: executor= is for `def`")
    needs_context = takes_context(fn)
    if needs_context and options.executor == "process":
        raise TypeError(f"{fn.__qualname__} runs in a process of its own, where there is no context: leave it out")
    name = declared.name or task_name(fn)
    unique = compile_unique(declared.unique, name, fn, takes_context=needs_context)
    return TaskDefinition(
        name=name,
        fn=fn,
        is_coroutine=is_coroutine,
        takes_context=needs_context,
        options=options if unique is None else msgspec.structs.replace(options, unique=unique),
    )


def task_name(fn: Callable[..., Any]) -> str:
    """`<module>.<qualified name>`, where the module is the one that a worker would import.

    A program's main module is named by `python -m`, or by its file. In a REPL it has neither: the name begins with
    `__main__`, and can't be sent.
    """
    module = fn.__module__
    if module in {"__main__", "__mp_main__"}:
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        stem = PurePath(getattr(main, "__file__", None) or "").stem
        module = spec.name if spec is not None else stem if stem.isidentifier() else "__main__"
    return f"{module}.{fn.__qualname__}"


def _exceptions(option: str, classes: Any) -> tuple[type[Exception], ...]:
    listed: tuple[Any, ...] = (classes,) if isinstance(classes, type) else tuple(classes)
    for each in listed:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise TypeError(f"{option} takes classes of exceptions, not {each!r}")
    return listed
