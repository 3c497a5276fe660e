"""`import asyncq` costs next to nothing, and what it offers is a list that nobody changes by accident."""

from __future__ import annotations

import subprocess
import sys

import asyncq

SURFACE = [
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


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_asyncq_loads_nothing_heavy() -> None:
    heavy = {"pydantic", "pydantic_settings", "msgspec", "anyio", "asyncio", "redis", "typer", "rich"}
    assert not heavy & modules_after("import asyncq")


def test_making_an_app_loads_no_driver_and_no_worker() -> None:
    program = "import asyncq\nasyncq.AsyncQ('shop', broker='redis://h', backend='redis://h')"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not {"redis", "asyncq.worker", "asyncq_brokers", "asyncq_backends", "typer"} & loaded


def test_the_public_names() -> None:
    assert sorted(asyncq.__all__) == SURFACE
    for name in SURFACE:
        assert getattr(asyncq, name) is not None
    assert set(SURFACE) <= set(dir(asyncq))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(asyncq, "Celery")
