"""How signatures combine (canvas.md, 3): what `|`, `chain`, `group` and `chord` make of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain as joined
from itertools import islice

from msgspec.structs import replace

from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, TaskNode, unchained
from asyncq.errors import SignatureError

__all__ = ["Stream", "chained", "grouped", "settled"]

#: Members of a group that are made at once; a generator with more gives the others while they are sent.
_MADE_AT_ONCE = 1000


class Stream:
    """Members that are made while they are sent, once."""

    def __init__(self, members: Iterator[Node]) -> None:
        self._members: Iterator[Node] | None = members

    def __iter__(self) -> Iterator[Node]:
        """Raises SignatureError the second time."""
        members, self._members = self._members, None
        if members is None:
            raise SignatureError("the members of this group came from a generator, which is used up")
        return members


def grouped(members: Iterable[Node], *, lazily: bool) -> GroupNode:
    """Side by side; `lazily`, only the beginning is made now."""
    made = map(settled, members)
    if not lazily:
        return GroupNode(tasks=list(made))
    first = list(islice(made, _MADE_AT_ONCE))
    more = next(made, None)
    return GroupNode(tasks=first if more is None else Stream(joined(first, [more], made)))


def chained(nodes: Iterable[Node]) -> Node:
    """One after the other. A group that is followed becomes a chord; what follows a chord belongs to its body."""
    parts = list(joined.from_iterable(map(_parts, nodes)))
    steps = [*parts[:1], *map(settled, parts[1:])]
    for place, step in enumerate(steps[:-1]):
        if isinstance(step, GroupNode):
            steps[place:] = [ChordNode(header=step, body=chained(steps[place + 1 :]))]
            break
        if isinstance(step, ChordNode):
            own = [] if step.body is None else [step.body]
            steps[place:] = [replace(step, body=chained([*own, *steps[place + 1 :]]))]
            break
    return steps[0] if len(steps) == 1 else ChainNode(tasks=steps)


def _parts(node: Node) -> list[Node]:
    """A chain's steps."""
    if not isinstance(node, ChainNode):
        return [node]
    return unchained(node) if node.options or node.args or node.immutable else node.tasks


def settled(node: Node) -> Node:
    """With all members made: only what stands first is sent while it is made."""
    match node:
        case TaskNode():
            return node
        case ChainNode():
            return replace(node, tasks=[settled(each) for each in node.tasks])
        case GroupNode():
            return replace(node, tasks=[settled(each) for each in node.tasks])
        case ChordNode():
            header = replace(node.header, tasks=[settled(each) for each in node.header.tasks])
            return replace(node, header=header, body=None if node.body is None else settled(node.body))
