"""An async-native task queue that speaks the Celery wire protocol.

::

    from asyncq import AsyncQ

    queue = AsyncQ("shop")

    @queue.task
    async def fetch(url: str) -> int: ...

    result = await fetch.send("https://…")
    value = await result.get(timeout=10)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncq._app import AsyncQ
    from asyncq._context import Context
    from asyncq._middleware import Middleware, Sending
    from asyncq._resources import Dependency, Lifespan
    from asyncq._result import AsyncResult, GroupResult
    from asyncq._result_reader import TaskState
    from asyncq._signature import Group, Signature, Step
    from asyncq._stamping import StampingVisitor
    from asyncq._task import Task
    from asyncq._unique import Unique
    from asyncq._version import __version__
    from asyncq._workflows import chain, chord, group
    from asyncq.driver import Queue
    from asyncq.errors import (
        AsyncqError,
        BackendError,
        BrokerError,
        ChordError,
        ConfigurationError,
        DuplicateTaskError,
        EncodeError,
        Ignore,
        InvalidArguments,
        PublishError,
        Reject,
        RemoteTaskError,
        ResultTimeout,
        Retry,
        SignatureError,
        Snooze,
        SoftTimeLimitExceeded,
        TaskError,
        TimeLimitExceeded,
    )

__all__ = [
    "AsyncQ",
    "AsyncResult",
    "AsyncqError",
    "BackendError",
    "BrokerError",
    "ChordError",
    "ConfigurationError",
    "Context",
    "Dependency",
    "DuplicateTaskError",
    "EncodeError",
    "Group",
    "GroupResult",
    "Ignore",
    "InvalidArguments",
    "Lifespan",
    "Middleware",
    "PublishError",
    "Queue",
    "Reject",
    "RemoteTaskError",
    "ResultTimeout",
    "Retry",
    "Sending",
    "Signature",
    "SignatureError",
    "Snooze",
    "SoftTimeLimitExceeded",
    "StampingVisitor",
    "Step",
    "Task",
    "TaskError",
    "TaskState",
    "TimeLimitExceeded",
    "Unique",
    "__version__",
    "chain",
    "chord",
    "group",
]

#: Where what isn't an error is found: nothing is imported before somebody uses it.
_HOMES = {
    "AsyncQ": "asyncq._app",
    "AsyncResult": "asyncq._result",
    "Context": "asyncq._context",
    "Dependency": "asyncq._resources",
    "Group": "asyncq._signature",
    "GroupResult": "asyncq._result",
    "Lifespan": "asyncq._resources",
    "Middleware": "asyncq._middleware",
    "Sending": "asyncq._middleware",
    "Queue": "asyncq.driver",
    "Signature": "asyncq._signature",
    "StampingVisitor": "asyncq._stamping",
    "Step": "asyncq._signature",
    "Task": "asyncq._task",
    "TaskState": "asyncq._result_reader",
    "Unique": "asyncq._unique",
    "__version__": "asyncq._version",
    "chain": "asyncq._workflows",
    "chord": "asyncq._workflows",
    "group": "asyncq._workflows",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "asyncq.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
