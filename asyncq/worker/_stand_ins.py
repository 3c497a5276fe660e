"""What will never run, as if it had been received: those who wait for it are to be told, and nobody else can tell them.

A failed task takes with it the later steps of its chain, a chord whose header has failed its body (canvas.md, 7.2 and
11).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from asyncq.canvas import CHAIN_REST, ChainNode, ChordNode, Document, GroupNode, Node, TaskNode, documents, read_node
from asyncq.protocol import TaskMessage, fault_of_names

logger = logging.getLogger("asyncq.worker")

# `Any` below: options of a signature, which anybody may have written.

#: No place in a header: messages have none beyond either.
_NO_INDEX = 2**31


def later_steps(message: TaskMessage) -> Iterator[TaskMessage]:
    """The steps after a task, the next one first. Raises SignatureError, DecodeError."""
    following = [*(message.chain or ())]
    if message.task == CHAIN_REST and isinstance(message.kwargs.get("last"), Mapping):
        following.append(message.kwargs["last"])  # what it would have gone on with
    for document in reversed(following):
        for step in stand_ins(read_node(document)):
            step.root_id, step.parent_id = message.root_id or message.id, message.id
            yield step


def stand_ins(node: Node, errbacks: Sequence[Document] = ()) -> Iterator[TaskMessage]:
    """The messages that a frozen signature would have ended in, with its errbacks and these.

    Of a chain that is its last step, of a chord its body; of a group each member, and the group under its own id, since
    somebody may wait for that. What has no id yet, nobody waits for.
    """
    errbacks = [*errbacks, *documents(node.options.get("link_error"))]
    match node:
        case TaskNode(task=task) if task == CHAIN_REST and isinstance(node.kwargs.get("last"), Mapping):
            yield from stand_ins(read_node(node.kwargs["last"]))
        case TaskNode():
            yield from _stand_in(node.task, node.options, errbacks, node)
        case ChainNode(tasks=[]):
            yield from _stand_in(node.task, {"task_id": node.options.get("task_id")}, errbacks)
        case ChainNode():
            # The errbacks of the step that would have been next, and no others': as of any step before it.
            first = documents(node.tasks[0].options.get("link_error"))
            errbacks += [each for each in first if each not in errbacks]
            # Of a group, which its own stand-in ends, they are told once.
            messages = list(stand_ins(node.tasks[-1]))
            for message in messages:
                message.errbacks = errbacks if message is messages[-1] else []
            yield from messages
        case GroupNode():
            for member in node.tasks:
                yield from stand_ins(member)
            yield from _stand_in("celery.group", {"task_id": node.options.get("task_id")}, errbacks)
        case ChordNode():
            yield from stand_ins(node.header if node.body is None else node.body, errbacks)


def _stand_in(
    task: str, options: Mapping[str, Any], errbacks: Sequence[Document], node: TaskNode | None = None
) -> Iterator[TaskMessage]:
    task_id, group, index, chord = (options.get(name) for name in ("task_id", "group_id", "group_index", "chord"))
    if not isinstance(task_id, str):
        return
    message = TaskMessage(
        task=task,
        id=task_id,
        args=[] if node is None else node.args,
        kwargs={} if node is None else node.kwargs,
        group=group if isinstance(group, str) else None,
        group_index=index if isinstance(index, int) and 0 <= index < _NO_INDEX else None,
        chord=cast("Document", chord) if isinstance(chord, dict) else None,
        errbacks=list(errbacks),
    )
    # No message of it was ever decoded: what its names may be, nobody has made sure of, and stores make keys of them.
    fault = fault_of_names(message)
    if fault is None:
        yield message
    else:
        logger.error("Something that will not run can't be failed, for nothing can be kept under its name: %s", fault)
