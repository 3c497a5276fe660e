"""What is called when a task has failed (canvas.md, 7.3).

An errback of the new style is a function of this worker's: it is called here, with the failed request, the exception
and the text of the traceback. One of the old style is a task like any other: it is sent, with the failed task's id.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
from msgspec import Struct

from asyncq._definition import TaskDefinition
from asyncq.canvas import Node, TaskNode, read_node
from asyncq.errors import SignatureError
from asyncq.protocol import TaskMessage
from asyncq.worker._flow import Flow

logger = logging.getLogger("asyncq.worker")

# `Any` below: arguments of the user's functions.

#: Seconds that one errback may take.
PATIENCE = 30.0

#: Errbacks that are `def` and run at a time.
_THREADS = 8


class ErrbackCall(Struct, frozen=True, eq=False):
    """A function to be called."""

    definition: TaskDefinition
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def sort_errbacks(
    failed: TaskMessage, exc: BaseException, text: str | None, tasks: Mapping[str, TaskDefinition]
) -> tuple[list[ErrbackCall], list[Node]]:
    """A failed task's errbacks: those that are called here, and those that are sent. What can't be read is logged."""
    calls: list[ErrbackCall] = []
    sent: list[Node] = []
    for document in failed.errbacks or ():
        try:
            node = read_node(document)
        except SignatureError as error:
            logger.error("An errback of %s[%s] is none: %s", failed.task, failed.id, error)  # noqa: TRY400 - no traceback
            continue
        definition = tasks.get(node.task) if isinstance(node, TaskNode) else None
        if isinstance(node, TaskNode) and definition is not None and _is_new_style(definition, node):
            args = node.args if node.immutable else [failed, exc, text, *node.args]
            calls.append(ErrbackCall(definition, args, node.kwargs))
        else:
            sent.append(node)
    return calls, sent


def _is_new_style(definition: TaskDefinition, node: TaskNode) -> bool:
    """Celery's rule: it takes more than one argument by position beside those that the signature has.

    One with a context belongs to a run of its own.
    """
    if definition.takes_context:
        return False
    try:
        parameters = inspect.signature(definition.fn).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in by_position for parameter in parameters) - len(node.args) > 1


class ErrbackRunner:
    """Calls errbacks beside the conclusions of other tasks, which don't wait for them."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._waiting: list[tuple[Sequence[ErrbackCall], Callable[[], None]]] = []
        self._wanted = asyncio.Event()

    def start(self, calls: Sequence[ErrbackCall], done: Callable[[], None]) -> None:
        """Call them one after the other, then `done`: also when the worker stops meanwhile."""
        self._flow.concluding += 1
        self._waiting.append((calls, done))
        self._wanted.set()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                waiting, self._waiting = self._waiting, []
                for calls, done in waiting:
                    group.start_soon(self._call_all, calls, done)

    async def _call_all(self, calls: Sequence[ErrbackCall], done: Callable[[], None]) -> None:
        try:
            for call in calls:
                await self._call(call)
        finally:
            done()
            self._flow.concluding -= 1
            self._flow.notify()

    async def _call(self, call: ErrbackCall) -> None:
        name = call.definition.name
        try:
            with anyio.fail_after(PATIENCE):
                if call.definition.is_coroutine:
                    await call.definition.fn(*call.args, **call.kwargs)
                else:
                    await anyio.to_thread.run_sync(
                        lambda: call.definition.fn(*call.args, **call.kwargs),
                        abandon_on_cancel=True,
                        limiter=self._threads,
                    )
        except GeneratorExit:
            raise
        except BaseException as error:  # the user's code: the others are called all the same
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            logger.exception("The errback %s failed", name, extra={"task": name})


def _is_cancelled() -> bool:
    """Somebody wants this task's end; a cancellation that comes without is one of the user's own tasks or scopes."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
