"""`@queue.task`: names, options, duplicates, and calling the function itself."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError, Context
from asyncq._declaration import DeclaredOptions
from asyncq._definition import TaskOptions


def test_bare_and_with_options(queue: AsyncQ) -> None:
    @queue.task
    async def bare() -> None:
        """Says what it does."""

    @queue.task(name="shop.named", max_retries=None, retry_on=[OSError], retry_backoff=True, acks_late=False)
    def named(a: int) -> int:
        return a

    assert bare.name == f"{__name__}.test_bare_and_with_options.<locals>.bare"
    assert bare.__doc__ == "Says what it does."
    assert bare.definition.is_coroutine
    assert bare.definition.options == TaskOptions()
    assert named.name == "shop.named"
    assert not named.definition.is_coroutine
    assert named.definition.options == TaskOptions(
        max_retries=None, retry_on=(OSError,), retry_backoff=1.0, acks_late=False
    )
    assert dict(queue.tasks) == {bare.name: bare, "shop.named": named}


async def test_a_task_is_still_the_function(queue: AsyncQ) -> None:
    @queue.task
    async def double(a: int) -> int:
        return a * 2

    @queue.task
    def triple(a: int) -> int:
        return a * 3

    @queue.task
    async def report(ctx: Context, a: int) -> tuple[bool, str, int]:
        await ctx.progress({"half": True})
        return ctx.called_directly, ctx.task_name, a

    assert await double(2) == 4
    assert triple(2) == 6
    assert await report(2) == (True, report.name, 2)


def test_the_options_are_those_that_are_honoured() -> None:
    assert set(DeclaredOptions.__annotations__) - {"name"} == set(TaskOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("bind", "annotate the first parameter with asyncq.Context"),
        ("autoretry_for", "it is called retry_on"),
        ("default_retry_delay", "it is called retry_backoff"),
        ("colour", "unknown task option 'colour'; there are name, queue, "),
    ],
)
def test_options_of_celerys_that_are_spelled_differently(queue: AsyncQ, option: str, advice: str) -> None:
    decorate: Callable[..., Any] = queue.task
    with pytest.raises(TypeError, match=advice):
        decorate(**{option: True})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"priority": 256}, ValueError, "from 0 to 255"),
        ({"retry_backoff": False}, ValueError, "give the seconds"),
        ({"retry_on": (KeyboardInterrupt,)}, TypeError, "classes of exceptions"),
        ({"retry_on": (OSError("x"),)}, TypeError, "classes of exceptions"),
        ({"soft_time_limit": 5, "time_limit": 2}, ValueError, "must not be above time_limit"),
    ],
)
def test_values_that_cannot_be_meant(queue: AsyncQ, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        queue.task(**options)


def test_what_is_no_task(queue: AsyncQ) -> None:
    async def stream() -> Any:
        yield 1

    with pytest.raises(TypeError, match="is a generator"):
        queue.task(stream)
    with pytest.raises(TypeError, match="made of a function"):
        queue.task(5)  # type: ignore[call-overload]  # the case under test
    with pytest.raises(TypeError, match="executor= is for `def`"):

        @queue.task(executor="process")
        async def coroutine() -> None: ...


def declare(queue: AsyncQ, module: str) -> Any:
    namespace: dict[str, Any] = {"__name__": module}
    exec("async def add(): ...", namespace)
    return queue.task(namespace["add"])


def test_a_name_that_is_taken(queue: AsyncQ) -> None:
    first = declare(queue, "shop.a")
    with pytest.raises(ConfigurationError, match=r"two tasks are called 'shop.a.add': shop.a.add and .*other"):

        @queue.task(name="shop.a.add")
        async def other() -> None: ...

    reloaded = declare(queue, "shop.a")
    assert queue.tasks["shop.a.add"] is reloaded is not first


MAIN = """
from asyncq import AsyncQ
queue = AsyncQ("shop")
@queue.task
async def add(): ...
print(add.name)
"""


def name_when_run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True, input=MAIN
    )
    return done.stdout.strip()


def test_the_main_modules_tasks_are_named_as_a_worker_would_import_them(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(MAIN)
    (tmp_path / "app.py").write_text(MAIN)
    assert name_when_run(["app.py"], tmp_path) == "app.add"
    assert name_when_run(["-m", "pkg.tasks"], tmp_path) == "pkg.tasks.add"
    assert name_when_run(["-"], tmp_path) == "__main__.add"


async def test_a_name_that_no_worker_could_import_is_refused_at_send(
    queue: AsyncQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    task = declare(queue, "__main__")
    assert task.name == "__main__.add"
    with pytest.raises(ConfigurationError, match="in no module that a worker could import"):
        await task.send()
