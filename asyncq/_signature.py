"""A call as data: it can be kept, put into other messages, and sent later (canvas.md, section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from asyncq._call import Call, CallOptions, call_options
from asyncq._definition import TaskOptions
from asyncq._outbox import Outbox
from asyncq._result import AsyncResult
from asyncq.errors import ConfigurationError

__all__ = ["Signature", "Step"]

R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)

# `Any` below: arguments are the caller's; what a task returns is known to the `Task` that made the signature.

#: Options that Celery writes into every captured signature, and that say nothing about how it is sent from here.
_NOT_ASKED = frozenset({"reply_to", "add_to_parent", "chord_size"})


class _Described:
    """What a complete call and a partial one have in common."""

    def __init__(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        immutable: bool,
        outbox: Outbox,
        task: TaskOptions | None,
    ) -> None:
        #: The task's name.
        self.task: str = name
        self.args: tuple[Any, ...] = tuple(args)
        self.kwargs: dict[str, Any] = dict(kwargs)
        #: Options of the call, in Celery's words.
        self.options: dict[str, Any] = dict(options)
        #: Takes no arguments from what runs before it.
        self.immutable: bool = immutable
        self._outbox = outbox
        self._task_options = task

    def __repr__(self) -> str:
        # No arguments: a repr ends up in logs.
        return f"<{type(self).__name__} {self.task} of {len(self.args) + len(self.kwargs)} arguments>"

    def to_dict(self) -> dict[str, Any]:
        """The form in which it stands in messages, Celery's own."""
        return {
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": dict(self.options),
            "subtask_type": None,
            "immutable": self.immutable,
        }


class Signature(_Described, Generic[R_co]):
    """A call with all its arguments: `await fetch.s("https://…").send()`."""

    async def send(self) -> AsyncResult[R_co]:
        """Send it. Raises what `Task.send` raises, and ConfigurationError for options that can't be honoured."""
        return await self._outbox.send(self.call())

    def send_sync(self) -> AsyncResult[R_co]:
        """`send` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        return self._outbox.send_sync(self.call())

    def call(self) -> Call:
        """What is sent. Raises ConfigurationError for options that can't be honoured."""
        return Call(self.task, self.args, self.kwargs, self._call_options(), self._task_options)

    def _call_options(self) -> CallOptions:
        # Null is "not set" in Celery's signatures.
        given = {name: value for name, value in self.options.items() if value and name not in _NOT_ASKED}
        unknown = given.keys() - set(CallOptions.__struct_fields__)
        if unknown:
            raise ConfigurationError(
                f"signature of {self.task}: options that asyncq does not send: {', '.join(sorted(unknown))}"
            )
        return call_options(**given)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, outbox: Outbox, task: TaskOptions | None) -> Signature[Any]:
        """Read what `to_dict` wrote, here or in Celery. Raises ConfigurationError for what is no task's signature."""
        if document.get("subtask_type") is not None:
            raise ConfigurationError(f"asyncq can't send a signature of the kind {document['subtask_type']!r}")
        if not isinstance(document.get("task"), str):
            raise ConfigurationError("a signature must name its task")
        return Signature(
            document["task"],
            cast("Sequence[Any]", document.get("args") or ()),
            cast("Mapping[str, Any]", document.get("kwargs") or {}),
            cast("Mapping[str, Any]", document.get("options") or {}),
            immutable=bool(document.get("immutable")),
            outbox=outbox,
            task=task,
        )


class Step(_Described, Generic[A_contra, R_co]):
    """A call that lacks its first argument, as the type checker sees it. At run time it is a Signature."""
