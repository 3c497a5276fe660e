"""How deep a document may nest and how much it may hold, answered before a decoder recurses into it.

A decoder gives up at about a thousand levels with a RecursionError, sooner when it is called deep in the stack, also
inside fields that it would skip (reliability.md, M11). So the depth is bounded first, without a loop over bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate, chain
from typing import cast

from asyncq.protocol._types import Limits

_STRUCTURE = b'[]{}"'
_OTHER_BYTES = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_AS_STEPS = bytes.maketrans(b"[]", array("b", (1, -1)).tobytes())

#: msgpack's first bytes of arrays and maps: fixmap, fixarray, array 16/32, map 16/32.
_MSGPACK_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])


def json_nests_deeper(raw: bytes, depth: int) -> bool:
    """Whether a JSON document nests arrays and objects deeper than `depth`.

    Exact for well-formed JSON; of anything else, up to where a decoder meets the fault.
    """
    if raw.count(b"[") + raw.count(b"{") <= depth:
        return False
    brackets = _brackets(raw)
    if b"[" * (depth + 1) in brackets:
        return True
    peeled_levels = 0
    while brackets:
        peeled = brackets.replace(b"[]", b"")
        if 4 * len(peeled) > 3 * len(brackets):
            # Towers, or brackets without their other half, of which peeling takes little at a time (4.5 s for 16 MiB of
            # towers). What is left then stands on as many levels as were peeled off.
            return peeled_levels + _deepest(brackets) > depth
        brackets = peeled
        peeled_levels += 1
    return peeled_levels > depth


def json_excess(raw: bytes, limits: Limits) -> str | None:
    """What is wrong with the size of a JSON document in a few words; None when it may be decoded."""
    if json_nests_deeper(raw, limits.max_depth):
        return f"is nested deeper than {limits.max_depth} levels"
    if json_holds_more(raw, limits.max_containers):
        return f"has more than {limits.max_containers} arrays and objects"
    return None


def json_holds_more(raw: bytes, containers: int) -> bool:
    """Whether a JSON document has more arrays and objects than `containers`. As exact as `json_nests_deeper`."""
    if len(raw) <= 2 * containers or raw.count(b"[") + raw.count(b"{") <= containers:
        return False
    return _brackets(raw).count(b"[") > containers


def _brackets(raw: bytes) -> bytes:
    """The brackets of a JSON document that stand outside of strings, all of one kind."""
    # Escapes go first, so that every quote left opens or closes a string; then all but brackets and quotes; then the
    # strings. Taking out two quotes that stand side by side never changes what is inside a string and what is not, and
    # keeps the split short.
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    quoted = raw.translate(_ONE_KIND, _OTHER_BYTES)
    return b"".join(quoted.replace(b'""', b"").split(b'"')[::2])


def _deepest(brackets: bytes) -> int:
    return max(accumulate(array("b", brackets.translate(_AS_STEPS))))


def msgpack_may_nest_deeper(raw: bytes, depth: int) -> bool:
    """Whether a msgpack document has enough bytes that could open a container. Yes means: look at the value."""
    return len(raw) - len(raw.translate(None, _MSGPACK_CONTAINERS)) > depth


def value_nests_deeper(value: object, depth: int, *, max_containers: int | None = None) -> bool:
    """Whether decoded lists, tuples and dicts (keys included) nest deeper than `depth`.

    With `max_containers` it also says yes when walking them meets more containers than that, a container that is
    referenced twice counting twice: YAML's aliases make small documents that are huge to walk.
    """
    level = _containers([value])
    met = 0
    for _ in range(depth):
        if not level:
            return False
        met += len(level)
        if max_containers is not None and met > max_containers:
            return True
        level = _containers(chain.from_iterable(map(_items, level)))
    return bool(level)


def _containers(values: Iterable[object]) -> list[object]:
    return [value for value in values if isinstance(value, list | tuple | dict)]


def _items(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        mapping = cast("dict[object, object]", container)
        return chain(mapping.keys(), mapping.values())
    return cast("list[object]", container)
