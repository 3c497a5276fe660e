"""What a message says of its place in a canvas, and how links are added to signatures (canvas.md, 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec import Struct, field
from msgspec.structs import replace

from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node

__all__ = [
    "Document",
    "Links",
    "documents",
    "linked_steps",
    "merged",
    "sending_options",
    "with_callbacks",
    "with_errbacks",
]

# `Any` below: arguments, options and documents are the caller's, of whatever type.

#: A signature as it stands in messages.
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

    @property
    def stand_alone(self) -> bool:
        """The message is no part of a chain, a group or a chord: nobody counts on it."""
        return self.group_id is None and self.chain is None and self.chord is None


#: Options that say where a message belongs and what follows it; `Links` has them.
_LINKING = frozenset(Links.__struct_fields__) | {"task_id", "link", "link_error"}

#: Options that mean something to Celery's client alone.
_CLIENTS = frozenset({"add_to_parent", "chord_size", "producer", "connection", "publisher"})


def sending_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a signature's options that say how it is sent: queue, countdown …; what was not said is left out."""
    apart = _LINKING | _CLIENTS
    return {name: value for name, value in options.items() if value is not None and name not in apart}


def merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a call over stored ones, by Celery's rule: null says nothing; a group and stamps stay as stored."""
    kept = {"group_id", "stamped_headers", *(stored.get("stamped_headers") or ())}
    said = {name: value for name, value in given.items() if value is not None and not (name in kept and name in stored)}
    return {**stored, **said}


def documents(found: object) -> list[Document]:
    """Links as a list: Celery takes a lone signature as well."""
    if found is None:
        return []
    return [cast("Document", found)] if isinstance(found, dict) else list(cast("Sequence[Document]", found))


def with_callbacks(node: Node, callbacks: Sequence[Document]) -> Node:
    """A copy that calls these when it has succeeded: a group by its first member, a chord by its body."""
    if not callbacks:
        return node
    match node:
        case GroupNode():
            members = list(node.tasks)
            unasked = [{**each, "immutable": True} for each in callbacks]
            return replace(node, tasks=[*(with_callbacks(each, unasked) for each in members[:1]), *members[1:]])
        case ChordNode() if node.body is not None:
            return replace(node, body=with_callbacks(node.body, callbacks))
        case _:
            return _with_links(node, "link", callbacks)


def with_errbacks(node: Node, errbacks: Sequence[Document]) -> Node:
    """A copy that calls these when it has failed: of a group each member, of a chord its body.

    As with Celery chords in a chord's header call them, too; members that are made as they are sent don't.
    """
    if not errbacks:
        return node
    match node:
        case GroupNode():
            return replace(node, tasks=[with_errbacks(each, errbacks) for each in node.tasks])
        case ChordNode() if node.body is not None:
            members = node.header.tasks
            if isinstance(members, list):
                members = [with_errbacks(each, errbacks) if isinstance(each, ChordNode) else each for each in members]
            return replace(node, header=replace(node.header, tasks=members), body=with_errbacks(node.body, errbacks))
        case _:
            return _with_links(node, "link_error", errbacks)


def linked_steps(node: ChainNode) -> list[Node]:
    """The steps of a chain that has any, with its links: errbacks belong to each, callbacks to the last one.

    A group there has each of its members call them, as with Celery, unlike a group that is linked by itself.
    """
    *before, last = (with_errbacks(step, documents(node.options.get("link_error"))) for step in node.tasks)
    callbacks = documents(node.options.get("link"))
    if isinstance(last, GroupNode):
        return [*before, replace(last, tasks=[with_callbacks(member, callbacks) for member in last.tasks])]
    return [*before, with_callbacks(last, callbacks)]


def _with_links(node: Node, name: str, added: Sequence[Document]) -> Node:
    """What is linked already is not linked twice, as in Celery."""
    links = documents(node.options.get(name))
    links += [each for each in added if each not in links]
    return replace(node, options={**node.options, name: links})
