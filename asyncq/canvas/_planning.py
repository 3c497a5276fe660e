"""From a signature to the messages that start it (canvas.md, 4 to 6), in the order in which they must go out.

The rest of the work lies inside of these messages: what follows a task stands in its links, with final ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from asyncq.canvas._cutting import Cutter
from asyncq.canvas._freezing import Freezer, Place, size_of
from asyncq.canvas._linking import (
    Document,
    Links,
    documents,
    linked_steps,
    merged,
    sending_options,
    with_callbacks,
    with_errbacks,
)
from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode, read_node
from asyncq.canvas._policies import with_policy
from asyncq.canvas._results import ResultTree, members_of

__all__ = ["Opening", "Planner", "Sending", "Step"]

# `Any` below: arguments and options are the caller's, of whatever type.


class Sending(Struct, frozen=True, kw_only=True):
    """A message to be sent."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: How it is sent, in Celery's words: queue, countdown, priority …; what was not said is not there.
    options: Mapping[str, Any]
    task_id: str
    links: Links


class Opening(Struct, frozen=True, kw_only=True):
    """A chord to be opened before the message that comes next."""

    group_id: str
    size: int
    #: The results of the header, in order, where the backend must know them; None where the parts alone will do.
    members: Sequence[ResultTree] | None = None


Step: TypeAlias = Sending | Opening


class Planner:
    """Plans on behalf of one sender: a client, or a task that has ended."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        reply_to: str | None = None,
        parent_id: str | None = None,
        root_id: str | None = None,
        priority: int | None = None,
        saves_headers: bool = False,
        cutter: Cutter | None = None,
    ) -> None:
        """`priority` is the sender's own, where what follows shall inherit it.

        With `saves_headers` (the result backend's own word) a chord is opened with its members' ids, and before the
        first message of its header. What is too long of its chains goes to the `cutter`; without one all of it stays in
        the messages.
        """
        self._freezer = Freezer(new_id, reply_to)
        self._parent_id = parent_id
        self._root_id = root_id
        self._priority = priority
        self._saves_headers = saves_headers
        self._cutter = cutter

    def freeze(self, node: Node) -> Node:
        """A copy with its final ids; those that it has stay. Groups that are made as they are sent stay so."""
        return self._freezer.freeze(node)

    def plan(
        self,
        node: Node,
        args: Sequence[Any] = (),
        *,
        options: Mapping[str, Any] | None = None,
        chain: Sequence[Document] | None = None,
    ) -> Iterator[Step]:
        """What must be sent to start it, with these arguments before its own.

        `options` are laid over its own; `chain` is what comes after it, in reverse order. Nothing comes out of a chain
        or a group that is empty.
        """
        return self._plan(self.freeze(node), args, options or {}, chain)

    def _plan(
        self, node: Node, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        """Of what is frozen."""
        if chain is None:
            chain = node.options.get("chain")  # the body of a chord that stood in a chain
        match node:
            case TaskNode():
                yield self._sending(node, args, options, chain)
            case ChainNode():
                yield from self._plan_chain(node, args, options, chain)
            case GroupNode() if chain:
                # Celery's clients leave a body that is a group so, and its workers run what follows it by each member.
                *rest, step = chain
                body = read_node(step)
                chord = ChordNode(header=node, body=body, options={"task_id": node.options["task_id"]})
                yield from self._plan_chord(chord, body, args, options, rest)
            case GroupNode():
                yield from self._plan_group(node, args, options, chain)
            case ChordNode():
                if node.body is None:
                    yield from self._plan_group(node.header, [*args, *node.args], options, chain)
                else:
                    yield from self._plan_chord(node, node.body, args, options, chain)

    def _sending(
        self, node: TaskNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Sending:
        said = merged(node.options, options)
        if self._priority is not None and said.get("priority") is None:
            said["priority"] = self._priority
        names: Sequence[str] = said.get("stamped_headers") or ()
        stamps = {name: said[name] for name in names if name in said}
        links = Links(
            root_id=said.get("root_id") or self._root_id,
            parent_id=said.get("parent_id") or self._parent_id,
            group_id=said.get("group_id"),
            group_index=said.get("group_index"),
            reply_to=said.get("reply_to"),
            callbacks=documents(said.get("link")) or None,
            errbacks=documents(said.get("link_error")) or None,
            chain=chain,
            chord=said.get("chord"),
            replaced_task_nesting=said.get("replaced_task_nesting") or 0,
            stamped_headers=names or None,
            stamps=stamps,
        )
        how = sending_options(said)
        return Sending(
            task=node.task,
            args=node.args if node.immutable else [*args, *node.args],
            kwargs=node.kwargs,
            options={name: value for name, value in how.items() if name not in stamps},
            task_id=said["task_id"],
            links=links,
        )

    def _plan_chain(
        self, node: ChainNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        if not node.tasks:
            return
        first, *rest = linked_steps(node)
        if self._cutter is not None:
            rest = self._cutter.cut(rest, self._freezer)
        after = chain
        if rest:
            after = [*(chain or ()), *(step.to_dict() for step in reversed(rest))]
        offered = [] if node.immutable else [*args, *node.args]
        yield from self._plan(first, offered, merged(sending_options(node.options), options), after)

    def _plan_group(
        self, node: GroupNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        offered = [] if node.immutable else [*args, *node.args]
        said = merged(sending_options(node.options), options)
        # Nothing follows a group as a whole: what does has made a chord of it.
        after = None if chain is None else ()
        members = _linked_members(node)
        if node.options.get("group_id") is None:  # else it stands in a group, which has numbered its members
            members = self._freezer.members(members, Place(group_id=node.options["task_id"]))
        for member in members:
            yield from self._plan(member, offered, said, after)

    def _plan_chord(
        self,
        node: ChordNode,
        body: Node,
        args: Sequence[Any],
        options: Mapping[str, Any],
        chain: Sequence[Document] | None,
    ) -> Iterator[Step]:
        group_id: str = node.options["task_id"]
        said = sending_options(merged(node.options, options))
        # A date is when the header begins.
        without_date = {name: value for name, value in said.items() if name not in {"countdown", "eta"}}
        body = self._body(node, self._freezer.freeze(body, Place(group_id=group_id)), without_date, chain)
        offered = [] if node.immutable else [*args, *node.args, *node.header.args]
        how = merged(sending_options(node.header.options), said)
        kept = body if self._cutter is None else self._cutter.shortened(body, self._freezer)
        completed = with_policy(kept.to_dict(), node.policy)
        members = self._freezer.members(node.header.tasks, Place(group_id=group_id, chord=completed))
        if self._saves_headers or isinstance(node.header.tasks, list):
            members = list(members)
        opened = self._opened_first if self._saves_headers else self._opened_last
        header = opened(group_id, members, lambda member: self._plan(member, offered, how, None))
        first = next(header, None)
        if first is None:
            yield from self._plan(body, [[]], {}, None)
        else:
            yield first
            yield from header

    def _opened_first(
        self, group_id: str, members: Iterable[Node], plan: Callable[[Node], Iterator[Step]]
    ) -> Iterator[Step]:
        """The messages of a header behind the chord's opening; nothing for a header without members."""
        members = list(members)
        size = sum(map(size_of, members))
        if size:
            yield Opening(group_id=group_id, size=size, members=members_of(members))
            for member in members:
                yield from plan(member)

    def _opened_last(
        self, group_id: str, members: Iterable[Node], plan: Callable[[Node], Iterator[Step]]
    ) -> Iterator[Step]:
        """The same, with the opening before the last message, when the size is known."""
        size = 0
        held: Step | None = None
        # Of most members just the id: there may be many of them.
        results: list[str | ResultTree] = []
        for member in members:
            size += size_of(member)
            results += [each.id if each.members is None else each for each in members_of([member])]
            for step in plan(member):
                if held is not None:
                    yield held
                held = step
        if held is not None:
            # From here on the header may end at any moment: the backend must know how many parts there are.
            nested = any(not isinstance(each, str) for each in results)
            trees = [ResultTree(each) if isinstance(each, str) else each for each in results] if nested else None
            yield Opening(group_id=group_id, size=size, members=trees)
            yield held

    def _body(self, node: ChordNode, body: Node, said: Mapping[str, Any], chain: Sequence[Document] | None) -> Node:
        """The body with all that the last of the header tasks must know to send it."""
        body = with_callbacks(body, documents(node.options.get("link")))
        body = with_errbacks(body, documents(node.options.get("link_error")))
        options = merged(body.options, said)
        if chain:
            options["chain"] = list(chain)
        if self._root_id is not None:
            options["root_id"] = self._root_id
        if node.kwargs and isinstance(body, TaskNode):
            body = replace(body, kwargs={**body.kwargs, **node.kwargs})
        return replace(body, options=options)


def _linked_members(node: GroupNode) -> Iterable[Node]:
    """The members of a group. Links of its own come from a chain of Celery's that ends in it."""
    callbacks, errbacks = documents(node.options.get("link")), documents(node.options.get("link_error"))
    if not callbacks and not errbacks:
        return node.tasks
    return [with_callbacks(with_errbacks(member, errbacks), callbacks) for member in node.tasks]
