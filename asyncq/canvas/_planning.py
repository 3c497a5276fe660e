"""From a signature to the messages that start it (canvas.md, 4 to 6), in the order in which they must go out.

The rest of the work lies inside of these messages: what follows a task stands in its links, with final ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain as joined
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode

__all__ = ["Links", "Opening", "Planner", "Sending", "Step", "result_id", "size_of"]

# `Any` below: arguments, options and documents are the caller's, of whatever type.

Document: TypeAlias = dict[str, Any]


class Links(Struct, frozen=True, kw_only=True):
    """What a message says beside its call: where it belongs, and what follows it."""

    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    reply_to: str | None = None
    callbacks: Sequence[Document] | None = None
    errbacks: Sequence[Document] | None = None
    #: In reverse order: the last one is next.
    chain: Sequence[Document] | None = None
    chord: Document | None = None
    replaced_task_nesting: int = 0
    stamped_headers: Sequence[str] | None = None
    stamps: Mapping[str, Any] = field(default_factory=dict[str, Any])


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


Step: TypeAlias = Sending | Opening

#: Options that say where a message belongs and what follows it; `Links` has them.
_LINKING = frozenset(Links.__struct_fields__) | {"task_id", "link", "link_error"}

#: Options that mean something to Celery's client alone.
_DROPPED = frozenset({"add_to_parent", "chord_size", "producer", "connection", "publisher"})


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
    ) -> None:
        """`priority` is the sender's own, where what follows shall inherit it."""
        self._new_id = new_id
        self._reply_to = reply_to
        self._parent_id = parent_id
        self._root_id = root_id
        self._priority = priority

    # -- ids -------------------------------------------------------------------------------------------------

    def freeze(self, node: Node) -> Node:
        """A copy with its final ids; those that it has stay. Groups that are made as they are sent stay so."""
        return self._freeze(node, _Place())

    def _freeze(self, node: Node, place: _Place) -> Node:
        match node:
            case TaskNode():
                return replace(node, options=self._ids(node.options, place))
            case ChainNode():
                return self._freeze_chain(node, place)
            case GroupNode():
                options = {"root_id": None, "parent_id": None, **node.options}
                options["task_id"] = options.get("task_id") or self._new_id()
                if place.group_id is not None:
                    options["group_id"] = place.group_id
                tasks = self._freeze_members(node.tasks, place)
                return replace(node, options=options, tasks=tasks if _is_stream(node) else list(tasks))
            case ChordNode():
                group_id = node.header.options.get("task_id") or node.options.get("task_id") or self._new_id()
                header = replace(node.header, options={**node.header.options, "task_id": group_id})
                body = None if node.body is None else self._freeze(node.body, place)
                options = {**node.options, "task_id": group_id}
                return replace(node, header=self._freeze(header, _Place()), body=body, options=options)

    def _freeze_chain(self, node: ChainNode, place: _Place) -> ChainNode:
        options = dict(node.options)
        link, link_error = _documents(options.pop("link", None)), _documents(options.pop("link_error", None))
        place = place.of_chain(options)
        steps = [self._freeze(_with_errbacks(step, link_error), _Place()) for step in _steps(node.tasks)]
        if steps:
            steps[-1] = self._freeze(_with_callbacks(steps[-1], link), place)
            options["task_id"] = result_id(steps[-1])
        return replace(node, tasks=list[Node](steps), options=options)

    def _freeze_members(self, members: Iterable[Node], place: _Place) -> Iterator[Node]:
        """Number them from 0 on, the members of nested groups among them."""
        index = 0 if place.group_index is None else place.group_index
        for member in members:
            frozen = self._freeze(member, _Place(group_id=place.group_id, group_index=index, chord=place.chord))
            index += size_of(frozen)
            yield frozen

    def _ids(self, options: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        ids: dict[str, Any] = {**options, "task_id": options.get("task_id") or place.task_id or self._new_id()}
        if self._reply_to is not None:
            ids.setdefault("reply_to", self._reply_to)
        if place.group_id is not None:
            ids["group_id"] = place.group_id
        if place.group_index is not None:
            ids["group_index"] = place.group_index
        if place.chord is not None:
            ids["chord"] = place.chord
        return ids

    # -- messages --------------------------------------------------------------------------------------------

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
        match node:
            case TaskNode():
                yield self._sending(node, args, options, chain)
            case ChainNode():
                yield from self._plan_chain(node, args, options, chain)
            case GroupNode():
                yield from self._plan_group(node, args, options, chain)
            case ChordNode():
                yield from self._plan_chord(node, args, options, chain)

    def _sending(
        self, node: TaskNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Sending:
        said = _merged(node.options, options)
        names: Sequence[str] = said.get("stamped_headers") or ()
        stamps = {name: said[name] for name in names if name in said}
        links = Links(
            root_id=said.get("root_id") or self._root_id,
            parent_id=said.get("parent_id") or self._parent_id,
            group_id=said.get("group_id"),
            group_index=said.get("group_index"),
            reply_to=said.get("reply_to"),
            callbacks=_documents(said.get("link")) or None,
            errbacks=_documents(said.get("link_error")) or None,
            chain=said.get("chain") if chain is None else chain,
            chord=said.get("chord"),
            replaced_task_nesting=said.get("replaced_task_nesting") or 0,
            stamped_headers=names or None,
            stamps=stamps,
        )
        if self._priority is not None and said.get("priority") is None:
            said["priority"] = self._priority
        apart = _LINKING | _DROPPED | stamps.keys()
        return Sending(
            task=node.task,
            args=node.args if node.immutable else [*args, *node.args],
            kwargs=node.kwargs,
            options={name: value for name, value in said.items() if value is not None and name not in apart},
            task_id=said["task_id"],
            links=links,
        )

    def _plan_chain(
        self, node: ChainNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        if not node.tasks:
            return
        first, *rest = node.tasks
        offered = [] if node.immutable else [*args, *node.args]
        after = chain
        if rest:
            after = [*(chain or ()), *(step.to_dict() for step in reversed(rest))]
        said = {name: value for name, value in node.options.items() if name not in _LINKING}
        yield from self._plan(first, offered, _merged(said, options), after)

    def _plan_group(
        self, node: GroupNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        group_id = node.options["task_id"]
        offered = [] if node.immutable else [*args, *node.args]
        said = {name: value for name, value in node.options.items() if name not in _LINKING}
        # Nothing follows a group as a whole: what does has made a chord of it.
        after = None if chain is None else ()
        for member in node.tasks:
            yield from self._plan(_in_group(member, group_id), offered, _merged(said, options), after)

    def _plan_chord(
        self, node: ChordNode, args: Sequence[Any], options: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Iterator[Step]:
        group_id: str = node.options["task_id"]
        said = {name: value for name, value in _merged(node.options, options).items() if name not in _LINKING}
        dates = {name: said.pop(name) for name in ("countdown", "eta") if said.get(name) is not None}
        body = None if node.body is None else self._body(node, node.body, group_id, said, chain)
        document = None if body is None else body.to_dict()
        place = _Place(group_id=group_id, chord=document)
        size = 0
        held: Step | None = None
        for member in self._freeze_members(node.header.tasks, place):
            size += size_of(member)
            for step in self._plan(member, [*args, *node.args], {**said, **dates}, None):
                if held is not None:
                    yield held
                held = step
        if held is not None:
            # From here on the header may end at any moment: the backend must know how many parts there are.
            yield Opening(group_id=group_id, size=size)
            yield held
        elif body is not None:
            yield from self._plan(body, [[]], {}, None)

    def _body(
        self, node: ChordNode, body: Node, group_id: str, said: Mapping[str, Any], chain: Sequence[Document] | None
    ) -> Node:
        """The body with all that the last of the header tasks must know to send it."""
        options = {**body.options, **said}
        options.setdefault("group_id", group_id)
        for name in ("link", "link_error"):
            own, added = _documents(body.options.get(name)), _documents(node.options.get(name))
            if added:
                options[name] = [*own, *added]
        if chain:
            options["chain"] = list(chain)
        if self._root_id is not None:
            options["root_id"] = self._root_id
        if node.kwargs and isinstance(body, TaskNode):
            body = replace(body, kwargs={**body.kwargs, **node.kwargs})
        return replace(body, options=options)


class _Place(Struct, frozen=True):
    """Where a signature stands in a group."""

    group_id: str | None = None
    group_index: int | None = None
    chord: Document | None = None
    #: For the last step of a chain that has an id.
    task_id: str | None = None

    def of_chain(self, options: dict[str, Any]) -> _Place:
        """Take the place of a chain, for its last step, out of its options."""
        return _Place(
            group_id=self.group_id or options.pop("group_id", None),
            group_index=options.pop("group_index", None) if self.group_index is None else self.group_index,
            chord=self.chord or options.pop("chord", None),
            task_id=options.get("task_id"),
        )


def result_id(node: Node) -> str:
    """The id under which the result of a frozen signature is found: of a group, its own."""
    match node:
        case ChainNode():
            return result_id(node.tasks[-1])
        case ChordNode() if node.body is not None:
            return result_id(node.body)
        case _:
            return node.options["task_id"]


def size_of(node: Node) -> int:
    """How many parts of a chord a member of its header hands in."""
    match node:
        case TaskNode():
            return 1
        case ChainNode():
            sizes = (size_of(step) for step in reversed(node.tasks))
            return next((size for size in sizes if size), 0)
        case GroupNode():
            return sum(size_of(member) for member in node.tasks)
        case ChordNode():
            return 1 if node.body is None else size_of(node.body)


def _steps(tasks: Iterable[Node]) -> list[Node]:
    """The steps of a chain as they are sent: flat, without empty ones, each group that something follows a chord."""
    steps: list[Node] = []
    for step in joined.from_iterable(map(_parts, tasks)):
        before = steps[-1] if steps else None
        if isinstance(before, GroupNode):
            steps[-1] = ChordNode(header=before, body=step)
        elif isinstance(before, ChordNode) and before.body is None:
            steps[-1] = replace(before, body=step)
        else:
            steps.append(step)
    return [part for step in steps for part in _split(step, alone=len(steps) == 1)]


def _parts(step: Node) -> list[Node]:
    match step:
        case ChainNode():
            inner = _steps(step.tasks)
            inner = [_with_errbacks(each, _documents(step.options.get("link_error"))) for each in inner]
            if inner:
                inner[-1] = _with_callbacks(inner[-1], _documents(step.options.get("link")))
            return inner
        case GroupNode(tasks=list()) if not step.tasks:
            return []
        case _:
            return [step]


def _split(step: Node, *, alone: bool) -> list[Node]:
    """Take the tail of a chord's body out into the chain around it: each header message carries the body."""
    if alone or not isinstance(step, ChordNode) or not isinstance(step.body, ChainNode):
        return [step]
    body = _steps(step.body.tasks)
    if len(body) < 2 or not isinstance(body[0], TaskNode):
        return [step]
    link, link_error = _documents(step.body.options.get("link")), _documents(step.body.options.get("link_error"))
    body = [_with_errbacks(each, link_error) for each in body]
    body[-1] = _with_callbacks(body[-1], link)
    return [replace(step, body=body[0]), *body[1:]]


def _with_callbacks(node: Node, callbacks: Sequence[Document]) -> Node:
    """A copy that calls these when it has succeeded: a group by its first member, a chord by its body."""
    if not callbacks:
        return node
    match node:
        case GroupNode():
            first, *others = node.tasks
            return replace(
                node, tasks=[_with_callbacks(first, [{**each, "immutable": True} for each in callbacks]), *others]
            )
        case ChordNode() if node.body is not None:
            return replace(node, body=_with_callbacks(node.body, callbacks))
        case _:
            return replace(node, options={**node.options, "link": [*_documents(node.options.get("link")), *callbacks]})


def _with_errbacks(node: Node, errbacks: Sequence[Document]) -> Node:
    """A copy that calls these when it has failed: of a group each member, of a chord its body."""
    if not errbacks:
        return node
    match node:
        case GroupNode():
            return replace(node, tasks=[_with_errbacks(each, errbacks) for each in node.tasks])
        case ChordNode() if node.body is not None:
            return replace(node, body=_with_errbacks(node.body, errbacks))
        case _:
            own = _documents(node.options.get("link_error"))
            added = [each for each in errbacks if each not in own]
            return replace(node, options={**node.options, "link_error": [*own, *added]})


def _in_group(member: Node, group_id: str) -> Node:
    """A frozen member that names its group, unless it names one already."""
    match member:
        case TaskNode():
            return (
                member
                if "group_id" in member.options
                else replace(member, options={**member.options, "group_id": group_id})
            )
        case ChainNode() if member.tasks:
            return replace(member, tasks=[*member.tasks[:-1], _in_group(member.tasks[-1], group_id)])
        case GroupNode(tasks=list()):
            return replace(member, tasks=[_in_group(each, group_id) for each in member.tasks])
        case _:
            return member


def _merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a call over stored ones, by Celery's rule: null says nothing; a group and stamps stay as stored."""
    kept = {"group_id", "stamped_headers", *(stored.get("stamped_headers") or ())}
    said = {name: value for name, value in given.items() if value is not None and not (name in kept and name in stored)}
    return {**stored, **said}


def _documents(found: object) -> list[Document]:
    """Links as a list: Celery takes a lone signature as well."""
    if found is None:
        return []
    return [found] if isinstance(found, dict) else list(found)  # type: ignore[call-overload]


def _is_stream(node: GroupNode) -> bool:
    return not isinstance(node.tasks, list)
