"""Where the results of a canvas will be found (results.md, 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from msgspec import Struct

from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode

__all__ = ["ResultTree", "child_of", "members_of", "result_of"]

# `Any` below: nested lists, as JSON has them.


class ResultTree(Struct, frozen=True):
    """A task's result, or a group's, and what came before it."""

    id: str
    #: Of a group: its members' results, in order.
    members: list[ResultTree] | None = None
    parent: ResultTree | None = None
    #: Nothing will be stored of it.
    ignored: bool = False


#: Whether nothing is stored of a task.
Ignores: TypeAlias = Callable[[TaskNode], bool]


def _nothing_is_ignored(_: TaskNode) -> bool:
    return False


def result_of(node: Node, parent: ResultTree | None = None, *, ignores: Ignores = _nothing_is_ignored) -> ResultTree:
    """The result of a frozen signature. A header that is made as it is sent is left out."""
    match node:
        case TaskNode():
            return ResultTree(node.options["task_id"], None, parent, ignores(node))
        case GroupNode():
            return ResultTree(node.options["task_id"], members_of(node.tasks, ignores=ignores), parent)
        case ChordNode():
            if isinstance(node.header.tasks, list):
                parent = result_of(node.header, parent, ignores=ignores)
            if node.body is not None:
                return result_of(node.body, parent, ignores=ignores)
            return parent or ResultTree(node.options["task_id"])
        case ChainNode():
            for step in node.tasks[:-1]:
                parent = result_of(step, parent, ignores=ignores)
            return result_of(node.last, parent, ignores=ignores)


def members_of(nodes: Iterable[Node], *, ignores: Ignores = _nothing_is_ignored) -> list[ResultTree]:
    """The results of a group's members; a group among them gives its own members, as in Celery."""
    return list(_members(nodes, ignores))


def _members(nodes: Iterable[Node], ignores: Ignores) -> Iterator[ResultTree]:
    for node in nodes:
        match node:
            case GroupNode():
                yield from _members(node.tasks, ignores)
            case ChainNode(tasks=[]):
                pass
            case _:
                yield result_of(node, ignores=ignores)


def child_of(tree: ResultTree) -> list[Any]:
    """How a record lists what its task has sent among the children (results.md, 6): what begins, for the rest follows.

    All of a chain, each step within the next, would nest deeper than a record may.
    """
    while tree.parent is not None:
        tree = tree.parent
    return [[tree.id, None], None if tree.members is None else [child_of(member) for member in tree.members]]
