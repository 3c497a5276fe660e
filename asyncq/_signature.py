"""Calls and whole workflows as data: they can be kept, combined, put into messages, and sent later (canvas.md, 1-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast, overload

from msgspec.structs import replace

from asyncq._call import SendOptions, call_options
from asyncq._canvas_sending import CanvasSender
from asyncq._combining import chained
from asyncq._result import AsyncResult, GroupResult
from asyncq._stamping import Stamper, StampingVisitor
from asyncq.canvas import ChordNode, Node, TaskNode, with_callbacks, with_errbacks
from asyncq.errors import SignatureError

__all__ = ["Group", "Signature", "Step"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
S = TypeVar("S")

# `Any` below: arguments and options are the caller's; what a task returns is known to the `Task` that made the
# signature.


class _Described:
    """What a complete call and a partial one have in common."""

    def __init__(self, node: Node, sender: CanvasSender | None) -> None:
        self._node = node
        #: The way out; an empty group knows none.
        self.sender: CanvasSender | None = sender

    def __repr__(self) -> str:
        # No arguments: a repr ends up in logs.
        return f"<{type(self).__name__} {self.task} of {len(self.args) + len(self.kwargs)} arguments>"

    @property
    def node(self) -> Node:
        """What the planner reads; not to be changed."""
        return self._node

    @property
    def task(self) -> str:
        """The task's name; `celery.chain`, `celery.group` or `celery.chord` of what is made of several."""
        return self._node.task

    @property
    def args(self) -> tuple[Any, ...]:
        return tuple(self._node.args)

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments by name; of a chord its body's."""
        return dict(self._node.kwargs) if isinstance(self._node, TaskNode | ChordNode) else {}

    @property
    def options(self) -> dict[str, Any]:
        """Options of the call, in Celery's words."""
        return dict(self._node.options)

    @property
    def immutable(self) -> bool:
        """Takes no arguments from what runs before it."""
        return self._node.immutable

    def to_dict(self) -> dict[str, Any]:
        """The form in which it stands in messages, Celery's own. A group that is made as it is sent is used up."""
        return self._node.to_dict()

    def clone(self) -> Self:
        """A copy; what is said of either afterwards does not reach the other."""
        return type(self)(self._node, self.sender)

    # -- what is said of it: each changes it in place, and returns it ----------------------------------------

    def set(self, **options: Unpack[SendOptions]) -> Self:
        """Say how it is sent: of a chain its first step, of a group each member, of a chord the header and the body.

        A chord's `countdown` and `eta` are its header's. Raises TypeError, ValueError.
        """
        given = call_options(**options).given()
        self._node = replace(self._node, options={**self._node.options, **given})
        return self

    def link(self, callback: Signature[Any] | Step[Any, Any]) -> Self:
        """Send `callback` with the result as its argument when it succeeds.

        A group's is called, without an argument, by its first member; a chord's by its body.
        """
        self._node = with_callbacks(self._node, [callback.to_dict()])
        return self

    def link_error(self, errback: Signature[Any] | Step[Any, Any]) -> Self:
        """Send `errback` with the task's id when it fails: any step of a chain, any member of a group, a chord's body.

        A task with room for three arguments that the worker knows is called there, with the request, the exception and
        the traceback, as Celery does it.
        """
        self._node = with_errbacks(self._node, [errback.to_dict()])
        return self

    def on_error(self, errback: Signature[Any] | Step[Any, Any]) -> Self:
        """The same as `link_error`."""
        return self.link_error(errback)

    # A stamp's value is whatever can travel.
    def stamp(self, visitor: StampingVisitor | None = None, *, append_stamps: bool = False, **stamps: Any) -> Self:
        """Put stamps on all of its tasks and their links: headers that later tell which tasks belong together.

        The body of a chord gets those of a visitor alone, as in Celery. `append_stamps` makes lists of those that
        are there already; else the new ones count.
        """
        stamper = Stamper(visitor, lambda node: Signature(node, self.sender), append=append_stamps)
        self._node = stamper.stamp(self._node, stamps)
        return self


class Signature(_Described, Generic[R_co]):
    """A call, or a chain, group or chord of calls, with all arguments: `await fetch.s("https://…").send()`."""

    async def send(self) -> AsyncResult[R_co]:
        """Send it; the broker has all of it when this returns. Of a group the result is a `GroupResult`.

        Raises what `Task.send` raises, SignatureError for a chain without steps, and ConfigurationError for a chord
        where the result backend can't bring its parts together.
        """
        return await self._way_out().send(self._node)

    def send_sync(self) -> AsyncResult[R_co]:
        """`send` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        return self._way_out().send_sync(self._node)

    @overload
    def __or__(self, other: Step[R_co, S]) -> Signature[S]: ...
    @overload
    def __or__(self, other: Signature[S]) -> Signature[S]: ...
    def __or__(self, other: Any) -> Any:
        """One after the other: `fetch.s("https://…") | size.s()`. What follows a group gets the list of its results."""
        if not isinstance(other, Signature):
            return NotImplemented
        after = cast("Signature[Any]", other)
        return Signature[Any](chained([self._node, after.node]), self.sender or after.sender)

    def _way_out(self) -> CanvasSender:
        if self.sender is None:
            raise SignatureError("an empty group can't be sent")
        return self.sender


class Group(Signature[list[R]], Generic[R]):
    """Calls side by side; made by `group(…)`."""

    async def send(self) -> GroupResult[R]:
        """Send all of them. Raises what `Signature.send` raises."""
        return await self._way_out().send(self._node)

    def send_sync(self) -> GroupResult[R]:
        """`send` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        return self._way_out().send_sync(self._node)


class Step(_Described, Generic[A_contra, R_co]):
    """A call that lacks its first argument, as the type checker sees it. At run time it is a Signature."""

    if TYPE_CHECKING:

        @overload
        def __or__(self, other: Step[R_co, S]) -> Step[A_contra, S]: ...
        @overload
        def __or__(self, other: Signature[S]) -> Step[A_contra, S]: ...
        def __or__(self, other: Any) -> Any: ...
