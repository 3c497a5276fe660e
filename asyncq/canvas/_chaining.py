"""The steps of a chain as they are sent (canvas.md, 3 and 4): flat, and with chords where a group is followed."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from asyncq.canvas._linking import documents, merged, sending_options, with_callbacks, with_errbacks
from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode

__all__ = ["has_chord", "steps_of", "unchained"]


def steps_of(tasks: Iterable[Node]) -> list[Node]:
    """Flat, without empty steps, each group that something follows the header of a chord."""
    flat = [part for task in tasks for part in _parts(task)]
    # From the end on: what follows a group becomes its body whole, be it a chord that was made a moment ago.
    backwards: list[Node] = []
    for step in reversed(flat):
        joined = _joined(step, backwards[-1]) if backwards else None
        if joined is None:
            backwards.append(step)
        else:
            backwards[-1] = joined
    alone = len(backwards) == 1
    return [part for step in reversed(backwards) for part in ([step] if alone else _split(step))]


def _parts(step: Node) -> list[Node]:
    match step:
        case ChainNode():
            return unchained(step)
        case GroupNode(tasks=list()) if not step.tasks:
            return []
        case _:
            return [step]


def unchained(node: ChainNode) -> list[Node]:
    """A chain's steps, which keep what is said of the chain as a whole."""
    steps = [with_errbacks(each, documents(node.options.get("link_error"))) for each in steps_of(node.tasks)]
    if steps:
        first = steps[0]
        steps[0] = replace(
            first,
            args=first.args if first.immutable else [*node.args, *first.args],
            options=merged(first.options, sending_options(node.options)),
            immutable=first.immutable or node.immutable,
        )
        steps[-1] = with_callbacks(steps[-1], documents(node.options.get("link")))
    return steps


def _joined(step: Node, after: Node) -> Node | None:
    """Both as one chord, where the first can't be followed otherwise."""
    match step:
        case GroupNode():
            return ChordNode(header=step, body=after)
        case ChordNode(body=None):
            return replace(step, body=after)
        case ChordNode(body=GroupNode() | ChordNode() | ChainNode() as body):
            # Nothing can follow a group, which is what the body may end in.
            followed = _joined(body, after) if not isinstance(body, ChainNode) else _followed(body, after)
            return None if followed is None else replace(step, body=followed)
        case _:
            return None


def _followed(body: ChainNode, after: Node) -> Node | None:
    steps = steps_of(body.tasks)
    joined = _joined(steps[-1], after) if steps else None
    return None if joined is None else replace(body, tasks=[*steps[:-1], joined])


def _split(step: Node) -> list[Node]:
    """Take the tail of a chord's body out into the chain around it: each header message carries the body."""
    if not isinstance(step, ChordNode) or not isinstance(step.body, ChainNode):
        return [step]
    body = unchained(step.body)
    if len(body) < 2 or not isinstance(body[0], TaskNode):
        return [step]
    return [replace(step, body=body[0]), *body[1:]]


def has_chord(node: Node) -> bool:
    """Whether parts must be brought together; of a group that is made as it is sent nobody knows."""
    match node:
        case TaskNode():
            return False
        case ChordNode():
            return node.body is not None
        case ChainNode():
            return any(map(has_chord, steps_of(node.tasks)))
        case GroupNode():
            return isinstance(node.tasks, list) and any(map(has_chord, node.tasks))
