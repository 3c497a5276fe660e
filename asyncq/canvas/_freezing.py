"""Final ids for a signature before any of it is sent (canvas.md, 1 and 4 to 6): what follows a task is named in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from asyncq.canvas._chaining import steps_of
from asyncq.canvas._linking import Document
from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode

__all__ = ["Freezer", "Place", "result_id", "size_of"]

# `Any` below: options are the caller's, of whatever type.


class Place(Struct, frozen=True):
    """Where a signature stands."""

    group_id: str | None = None
    group_index: int | None = None
    #: The body that gets the result.
    chord: Document | None = None
    #: For the last step of a chain that has an id.
    task_id: str | None = None

    def of_chain(self, options: dict[str, Any]) -> Place:
        """Take the place of a chain, which is its last step's, out of its options."""
        group_id, group_index, chord = (options.pop(name, None) for name in ("group_id", "group_index", "chord"))
        return Place(
            group_id=self.group_id or group_id,
            group_index=group_index if self.group_index is None else self.group_index,
            chord=self.chord or chord,
            task_id=options.get("task_id") or self.task_id,
        )


NOWHERE = Place()


class Freezer:
    """Gives ids; those that a signature has stay."""

    def __init__(self, new_id: Callable[[], str], reply_to: str | None) -> None:
        self._new_id = new_id
        self._reply_to = reply_to

    def freeze(self, node: Node, place: Place = NOWHERE) -> Node:
        """A copy with its final ids; frozen again it stays the same. A group that is made as it is sent stays so."""
        match node:
            case TaskNode():
                return replace(node, options=self._ids(node.options, place))
            case ChainNode():
                return self._chain(node, place)
            case GroupNode():
                return self._group(node, place)
            case ChordNode():
                return self._chord(node, place)

    def members(self, members: Iterable[Node], place: Place) -> Iterator[Node]:
        """Freeze them one by one, numbered from 0 on in order, the members of nested groups among them.

        Celery begins anew, or counts backwards, within a nested group: its results come out of order.
        """
        index = place.group_index or 0
        for member in members:
            frozen = self.freeze(member, Place(group_id=place.group_id, group_index=index, chord=place.chord))
            index += size_of(frozen)
            yield frozen

    def _chain(self, node: ChainNode, place: Place) -> ChainNode:
        """Its links stay its own until it is sent: Celery's workers look for them there when a header has failed."""
        options = dict(node.options)
        last = place.of_chain(options)
        steps = steps_of(node.tasks)
        frozen = [self.freeze(step) for step in steps[:-1]]
        if steps:
            frozen.append(self.freeze(steps[-1], last))
            options["task_id"] = result_id(frozen[-1])
        return replace(node, tasks=frozen, options=options)

    def _group(self, node: GroupNode, place: Place) -> GroupNode:
        options: dict[str, Any] = {"root_id": None, "parent_id": None, **node.options}
        options["task_id"] = options.get("task_id") or place.task_id or self._new_id()
        if place.group_id is not None:
            options.setdefault("group_id", place.group_id)
        if place.group_index is None and node.options.get("group_id") is not None:
            tasks = map(self.freeze, node.tasks)  # its members have their places in the group that it stands in
        else:
            tasks = self.members(node.tasks, place)
        return replace(node, options=options, tasks=list(tasks) if isinstance(node.tasks, list) else tasks)

    def _chord(self, node: ChordNode, place: Place) -> ChordNode:
        """Once frozen, a chord's id is its header's; the id that a call names is that of its result."""
        named = node.header.options.get("task_id")
        group_id = named or self._new_id()
        if named is None and node.options.get("task_id") is not None:
            place = replace(place, task_id=node.options["task_id"])
        header = replace(node.header, options={**node.header.options, "task_id": group_id})
        return replace(
            node,
            header=self._group(header, NOWHERE),
            body=None if node.body is None else self.freeze(node.body, place),
            options={**node.options, "task_id": group_id},
        )

    def _ids(self, options: Mapping[str, Any], place: Place) -> dict[str, Any]:
        ids: dict[str, Any] = {**options, "task_id": options.get("task_id") or place.task_id or self._new_id()}
        if self._reply_to is not None:
            ids.setdefault("reply_to", self._reply_to)
        if place.chord is not None:
            # Its result is a part of this chord, whatever group it was in before.
            ids["chord"] = place.chord
            ids["group_id"] = place.group_id
        elif place.group_id is not None:
            ids.setdefault("group_id", place.group_id)
        if place.group_index is not None:
            ids["group_index"] = place.group_index
        return ids


def result_id(node: Node) -> str:
    """The id under which the result of a frozen signature is found: of a group, its own. Raises SignatureError."""
    match node:
        case ChainNode():
            return result_id(node.last)
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
            return size_of(node.header) if node.body is None else size_of(node.body)
