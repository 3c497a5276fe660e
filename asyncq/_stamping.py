"""Stamps: headers that a whole workflow carries (canvas.md, section 15)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from msgspec.structs import replace

from asyncq._combining import Stream
from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, TaskNode, documents, read_node

if TYPE_CHECKING:
    from asyncq._signature import Signature

__all__ = ["Stamper", "StampingVisitor"]

# `Any` below: a stamp is whatever can travel, and signatures return whatever they return.

Stamps: TypeAlias = Mapping[str, Any]

_NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Says which stamps each part of a workflow gets: `workflow.stamp(visitor)`.

    Each method is given the part and the stamps that it has got from what it stands in, and returns more of them. With
    a list of names under `stamped_headers` only these of them count.
    """

    @abstractmethod
    def on_signature(self, signature: Signature[Any], /, **stamps: Any) -> Stamps:
        """Of one task."""

    def on_group_start(self, group: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - for those who override
        """Of each member of a group."""
        return {}

    def on_group_end(self, group: Signature[Any], /, **stamps: Any) -> None:  # noqa: B027 - for those who override
        """After the last member."""

    def on_chain_start(self, chain: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - for those who override
        """Of each step of a chain."""
        return {}

    def on_chain_end(self, chain: Signature[Any], /, **stamps: Any) -> None:  # noqa: B027 - for those who override
        """After the last step."""

    def on_chord_header_start(self, chord: Signature[Any], /, **stamps: Any) -> Stamps:
        """Of each member of a chord's header; by itself what `on_group_start` says."""
        return self.on_group_start(chord, **stamps)

    def on_chord_header_end(self, chord: Signature[Any], /, **stamps: Any) -> None:
        """After the last member; by itself `on_group_end`."""
        self.on_group_end(chord, **stamps)

    def on_chord_body(self, chord: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - for those who override
        """Of a chord's body."""
        return {}

    def on_callback(self, callback: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - for those who override
        """Of what is linked to a success."""
        return {}

    def on_errback(self, errback: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - for those who override
        """Of what is linked to a failure."""
        return {}


class _Silent(StampingVisitor):
    """No visitor: the stamps of the call alone."""

    def on_signature(self, signature: Signature[Any], /, **stamps: Any) -> Stamps:  # noqa: ARG002 - as the others
        return {}


class Stamper:
    """Puts stamps on all parts of a signature."""

    def __init__(
        self, visitor: StampingVisitor | None, present: Callable[[Node], Signature[Any]], *, append: bool
    ) -> None:
        """`present` makes of a node what the visitor gets to see. `append` makes lists of stamps that are there."""
        self._visitor = visitor or _Silent()
        self._present = present
        self._append = append

    def stamp(self, node: Node, stamps: Stamps) -> Node:
        """A stamped copy."""
        match node:
            case TaskNode():
                own = self._more(stamps, self._visitor.on_signature(self._present(node), **stamps))
                return replace(node, options=self._on(self._with_links(node.options, stamps), own))
            case ChainNode():
                seen = self._present(node)
                inner = self._more(stamps, self._visitor.on_chain_start(seen, **stamps))
                tasks = [self.stamp(task, inner) for task in node.tasks]
                self._visitor.on_chain_end(seen, **inner)
                return replace(node, tasks=tasks, options=self._with_links(node.options, inner))
            case GroupNode():
                seen = self._present(node)
                inner = self._more(stamps, self._visitor.on_group_start(seen, **stamps))
                tasks = self._members(node.tasks, inner)
                self._visitor.on_group_end(seen, **inner)
                return replace(node, tasks=tasks, options=self._with_links(node.options, inner))
            case ChordNode():
                return self._chord(node, stamps)

    def _chord(self, node: ChordNode, stamps: Stamps) -> ChordNode:
        seen = self._present(node)
        inner = self._more(stamps, self._visitor.on_chord_header_start(seen, **stamps))
        header = replace(node.header, tasks=self._members(node.header.tasks, inner))
        self._visitor.on_chord_header_end(seen, **inner)
        body = node.body
        if body is not None and not isinstance(self._visitor, _Silent):
            body = self.stamp(body, self._more(inner, self._visitor.on_chord_body(seen, **inner)))
        return replace(node, header=header, body=body, options=self._with_links(node.options, inner))

    def _members(self, members: Iterable[Node], stamps: Stamps) -> Iterable[Node]:
        stamped = (self.stamp(member, stamps) for member in members)
        return list(stamped) if isinstance(members, list) else Stream(stamped)

    def _with_links(self, options: Stamps, stamps: Stamps) -> dict[str, Any]:
        linked = dict(options)
        for name, ask in (("link", self._visitor.on_callback), ("link_error", self._visitor.on_errback)):
            links = [read_node(document) for document in documents(options.get(name))]
            if links:
                said = [self._more(stamps, ask(self._present(link), **stamps)) for link in links]
                linked[name] = [self.stamp(link, own).to_dict() for link, own in zip(links, said, strict=True)]
        return linked

    def _more(self, stamps: Stamps, said: Stamps) -> dict[str, Any]:
        """The stamps with those that a visitor has added."""
        names: Iterable[str] = said.get(_NAMES, [name for name in said if name != _NAMES])
        return self._merged(stamps, {name: said[name] for name in names if name in said})

    def _on(self, options: Stamps, stamps: Stamps) -> dict[str, Any]:
        """Options that carry these stamps, beside those that they carry already."""
        names: Iterable[str] = options.get(_NAMES) or ()
        carried = {name: options[name] for name in names if name in options}
        merged = self._merged(carried, stamps)
        return {**options, **merged, _NAMES: list(merged)} if merged else dict(options)

    def _merged(self, old: Stamps, new: Stamps) -> dict[str, Any]:
        if not self._append:
            return {**old, **new}
        both = {name: [*_listed(new[name]), *_listed(old[name])] for name in new if name in old}
        return {**old, **new, **both}


def _listed(stamp: Any) -> list[Any]:
    return cast("list[Any]", stamp) if isinstance(stamp, list) else [stamp]
