"""Very long chains in pieces, for each message of a chain holds all steps that come after it: quadratic work for the
whole.

Where a chain is long enough, its steps are cut into pieces. Each but the first is to be kept under a key, beside the
messages; the piece before it ends in a step that names the key (`CHAIN_REST`). Celery's workers know no such step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from asyncq.canvas._freezing import Freezer
from asyncq.canvas._linking import Document, documents, linked_steps
from asyncq.canvas._nodes import ChainNode, ChordNode, Node, TaskNode

__all__ = ["CHAIN_REST", "Cutter", "Pieces"]

#: The task that goes on with the next piece. Its arguments by name: `key`, and `last`, the signature of the last step,
#: so that a failure on the way can be told to those who wait for that.
CHAIN_REST = "asyncq.chain_rest"

#: Steps that are kept, by key; the next one last.
Pieces: TypeAlias = dict[str, list[Document]]

#: Steps of a piece at most. What is left of it stands in each of its messages, on Redis 10 KiB a step (38 with 250
#: steps), and to fetch the next one takes a step more.
_PIECE = 50


class Cutter:
    """Cuts what one workflow has of long chains, and collects the pieces."""

    def __init__(self, longest: int, new_id: Callable[[], str], queue_of: Callable[[Node], str | None]) -> None:
        """`longest` is the number of steps that may stand in a message; 0: any. `queue_of` says where a step goes."""
        self._longest = longest
        self._new_id = new_id
        self._queue_of = queue_of
        self._pieces: Pieces = {}

    def take(self) -> Pieces:
        """The pieces that were made since the last time: to be kept before any message that comes next is sent."""
        taken, self._pieces = self._pieces, {}
        return taken

    def cut(self, steps: Sequence[Node], freezer: Freezer) -> list[Node]:
        """What stands in a message of the steps that come after it, which are frozen, and call what is linked to them.

        The step that names a piece goes where the first step of that piece does, and fails as that would.
        """
        steps = [self.shortened(each, freezer) for each in steps]
        if not self._longest or len(steps) <= self._longest:
            return steps
        size = max(1, min(self._longest // 2, _PIECE))
        last = steps[-1].to_dict()
        behind: list[Node] = []
        # From the end on, since each piece names the one behind it.
        while len(steps) > size:
            first = len(steps) - (len(steps) % size or size)
            steps, piece = steps[:first], [*steps[first:], *behind]
            key = self._new_id()
            self._pieces[key] = [each.to_dict() for each in reversed(piece)]
            options = {"queue": self._queue_of(piece[0]), "link_error": _errbacks_of(piece[0])}
            rest = TaskNode(task=CHAIN_REST, kwargs={"key": key, "last": last}, options=options)
            behind = [freezer.freeze(rest)]
        return [*steps, *behind]

    def shortened(self, node: Node, freezer: Freezer) -> Node:
        """What is frozen, and will be planned only later, where it stands, as it stands in a message until then.

        Members of a header get their body, and those of a group may get one, only when they are planned; so does a body
        the links of its chord. Chains among them stay whole.
        """
        match node:
            case ChainNode() if self._longest and len(node.tasks) > self._longest + 1:
                first, *rest = linked_steps(node)
                others = {name: value for name, value in node.options.items() if name not in {"link", "link_error"}}
                return replace(node, tasks=[self.shortened(first, freezer), *self.cut(rest, freezer)], options=others)
            case ChainNode():
                return replace(node, tasks=[self.shortened(each, freezer) for each in node.tasks])
            case ChordNode(body=body) if body is not None and not node.options.get("link"):
                return replace(node, body=self.shortened(body, freezer))
            case _:
                return node


def _errbacks_of(step: Node) -> list[Document] | None:
    while isinstance(step, ChordNode) and step.body is not None:
        step = step.body
    return documents(step.options.get("link_error")) or None
