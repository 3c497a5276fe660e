"""A task as its sender sees it: a typed function that can be called, sent and described."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from asyncq._call import NO_OPTIONS, Call, CallOptions, SendOptions, call_options
from asyncq._canvas_sending import CanvasSender
from asyncq._combining import grouped
from asyncq._context import Context
from asyncq._definition import TaskDefinition
from asyncq._result import AsyncResult
from asyncq._signature import Group, Signature, Step
from asyncq.canvas import TaskNode

if TYPE_CHECKING:
    from asyncq._app import AsyncQ

__all__ = ["AsyncTask", "BoundTask", "SyncTask", "Task"]

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
A = TypeVar("A")

# `Any` below: arguments that P has checked already, or that `apply_async` takes unchecked as Celery's does.


class _Sendable(Generic[P, R]):
    """The ways of sending, for a task and for a task with options."""

    def __init__(self, definition: TaskDefinition, sender: CanvasSender, options: CallOptions) -> None:
        #: Name, function and options, as workers have them.
        self.definition: TaskDefinition = definition
        self._sender = sender
        self._outbox = sender.outbox
        self._options = options

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a call to the broker; it is stored there when this returns.

        Raises EncodeError for an argument that can't travel, BrokerError when the broker doesn't take it,
        ConfigurationError for a queue that isn't declared or a name that begins with `__main__`.
        """
        return await self._outbox.send(self._call(args, kwargs))

    def send_sync(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`send` for sync code: scripts, sync views, `def` tasks. A background thread does the work.

        Raises RuntimeError in a thread whose event loop runs.
        """
        return self._outbox.send_sync(self._call(args, kwargs))

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """The same as `send`, under Celery's name."""
        return await self._outbox.send(self._call(args, kwargs))

    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]: ...
    @overload
    def s(self: _Sendable[Concatenate[A, P2], R], *args: P2.args, **kwargs: P2.kwargs) -> Step[A, R]: ...
    def s(self, *args: Any, **kwargs: Any) -> Any:
        """The call as data: complete, or without its first argument, which comes from the step before it."""
        return self._signature(args, kwargs, immutable=False)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """The call as data, which takes no argument from the step before it."""
        return self._signature(args, kwargs, immutable=True)

    def map(self, items: Iterable[Any]) -> Signature[list[R]]:
        """One message for all: the worker calls the function for each item, one after the other.

        Nothing is stored, retried or limited item by item.
        """
        return Signature(self._carried("celery.map", list(items)), self._sender)

    def starmap(self, items: Iterable[Sequence[Any]]) -> Signature[list[R]]:
        """As `map`, with several arguments an item."""
        return Signature(self._carried("celery.starmap", [list(item) for item in items]), self._sender)

    def chunks(self, items: Iterable[Sequence[Any]], size: int) -> Group[list[R]]:
        """A group of starmaps, each for at most `size` items. Raises ValueError for a size below 1."""
        if size < 1:
            raise ValueError(f"a chunk holds at least one item, not {size}")
        each = (list(item) for item in items)
        chunks = iter(lambda: list(islice(each, size)), list[Any]())
        carried = (self._carried("celery.starmap", chunk) for chunk in chunks)
        return Group(grouped(carried, lazily=isinstance(items, Iterator)), self._sender)

    def _carried(self, carrier: str, items: list[Any]) -> TaskNode:
        """The call of a task that calls this one."""
        inner = TaskNode(task=self.definition.name)
        return TaskNode(
            task=carrier,
            kwargs={"task": inner.to_dict(), "it": items},
            options=self._options.given(),
            immutable=True,
        )

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        definition = self.definition
        return Call(definition.name, args, kwargs, self._options, definition.options)

    def _signature(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool) -> Signature[Any]:
        node = TaskNode(
            task=self.definition.name,
            args=list(args),
            kwargs=dict(kwargs),
            options=self._options.given(),
            immutable=immutable,
        )
        return Signature(node, self._sender)


class BoundTask(_Sendable[P, R]):
    """A task with options for its next calls: `await fetch.options(countdown=5).send("https://…")`."""

    def __repr__(self) -> str:
        return f"<{self.definition.name} with {', '.join(self._options.given()) or 'no options'}>"


class Task(_Sendable[P, R]):
    """A task that this app declares. Made by `@queue.task`."""

    def __init__(self, definition: TaskDefinition, sender: CanvasSender, app: AsyncQ) -> None:
        super().__init__(definition, sender, NO_OPTIONS)
        #: The app that declares it.
        self.app: AsyncQ = app
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.fn)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def name(self) -> str:
        """The name that messages carry."""
        return self.definition.name

    def options(self, **options: Unpack[SendOptions]) -> BoundTask[P, R]:
        """The task with options for the calls that follow. Raises TypeError, ValueError."""
        return BoundTask(self.definition, self._sender, call_options(**options))

    async def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[SendOptions]
    ) -> AsyncResult[R]:
        """Celery's way to send with options. Arguments are not checked by the type checker: prefer `options().send`."""
        call = Call(self.name, args, kwargs or {}, call_options(**options), self.definition.options)
        return await self._outbox.send(call)

    def _plain_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        definition = self.definition
        if definition.takes_context:
            return definition.fn(Context.direct(definition.name), *args, **kwargs)
        return definition.fn(*args, **kwargs)


class AsyncTask(Task[P, R]):
    """A task that is an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function itself, here and now. A context is put in."""
        return self._plain_call(args, kwargs)


class SyncTask(Task[P, R]):
    """A task that is a plain `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now. A context is put in."""
        return self._plain_call(args, kwargs)
