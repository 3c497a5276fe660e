"""A signature takes the place of a task that runs (canvas.md, 13): it gets the task's id, and all that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from asyncq.canvas import ChainNode, ChordNode, Document, GroupNode, Node, TaskNode, documents, read_node
from asyncq.errors import SignatureError
from asyncq.protocol import TaskMessage

# `Any` below: options of a signature, which anybody may have written.


def in_place_of(message: TaskMessage, node: Node) -> tuple[Node, list[Document] | None]:
    """The signature as it is to be sent, and what comes after it, in reverse order.

    Raises SignatureError, DecodeError.
    """
    if node.options.get("chord") is not None:
        raise SignatureError("what is a chord's member already can't take a task's place")
    if isinstance(node, ChainNode | GroupNode) and not node.tasks:
        raise SignatureError("an empty chain or group can't take a task's place")
    nesting = message.replaced_task_nesting + 1
    place = {
        "task_id": message.id,
        "replaced_task_nesting": nesting,
        "group_id": message.group,
        "group_index": message.group_index,
        "chord": message.chord,
        "link": message.callbacks or [],
        "link_error": message.errbacks or [],
    }
    rest = None
    if message.chain is not None:
        rest = [_nested(read_node(step), nesting).to_dict() for step in message.chain]
    return _placed(_nested(node, nesting), place), rest


def _nested(node: Node, nesting: int) -> Node:
    """A copy of which each task knows how often what led to it was replaced."""
    match node:
        case TaskNode():
            return replace(node, options={**node.options, "replaced_task_nesting": nesting})
        case ChainNode() | GroupNode():
            return replace(node, tasks=[_nested(each, nesting) for each in node.tasks])
        case ChordNode():
            header = _nested(node.header, nesting)
            body = None if node.body is None else _nested(node.body, nesting)
            return replace(node, header=header, body=body)


def _placed(node: Node, place: Mapping[str, Any]) -> Node:
    """A copy whose result is that of a task in this place: a list, where it is a group."""
    match node:
        case TaskNode():
            links = {name: documents(node.options.get(name)) + place[name] for name in ("link", "link_error")}
            return replace(
                node, options={**node.options, **place, **{name: found or None for name, found in links.items()}}
            )
        case ChainNode():
            *before, last = node.tasks
            errbacks = [*documents(node.options.get("link_error")), *place["link_error"]]
            options = {**node.options, "link_error": errbacks}
            last = _placed(last, {**place, "link_error": []})
            return replace(node, tasks=[*before, last], options=options)
        case GroupNode():
            return ChordNode(header=node, body=_placed(TaskNode(task="celery.accumulate", kwargs={"index": 0}), place))
        case ChordNode(body=body) if body is not None:
            return replace(node, body=_placed(body, place))
        case ChordNode():
            return _placed(node.header, place)
