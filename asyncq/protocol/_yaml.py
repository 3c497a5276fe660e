"""YAML bodies by PyYAML, where it is installed and the app accepts them.

PyYAML's safe loader builds no objects, but it has other doors. Its C half recurses until the process dies (measured:
50,000 brackets are a segmentation fault), so the depth is looked at in the stream of events first, which nobody
recurses in. It expands merge keys without a bound and reads `1:1:1:…` as one number in quadratic time: Celery's own
messages hold neither, and both are refused. Aliases, which Celery does send when a value occurs twice, are followed as
far as a bound goes.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._bounds import value_nests_deeper
from asyncq.protocol._types import Limits

#: Digits of the longest number that is read: Python's own limit for integers.
_MAX_NUMBER = 4300

#: Containers that aliases may add to those that a document can spell out.
_MAX_ALIASED = 100_000

_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def dump_yaml(value: object) -> bytes:
    """Encode as Celery does (`safe_dump`). Raises EncodeError: a type that YAML lacks, PyYAML missing."""
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as exc:
        raise EncodeError("serializer yaml needs PyYAML") from exc
    try:
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8")
    except (yaml.YAMLError, UnicodeEncodeError, RecursionError) as exc:
        raise EncodeError(str(exc)) from exc


def load_yaml(raw: bytes, limits: Limits) -> Any:  # a user's value: of any type
    """Decode. Raises DecodeError: malformed, too deep, aliases that explode, PyYAML missing."""
    try:
        yaml, loader = _library()
    except ImportError as exc:
        raise DecodeError("YAML needs PyYAML, which is not installed") from exc
    try:
        too_deep = _events_nest_deeper(yaml, loader, raw, limits.max_depth)
        value = None if too_deep else yaml.load(raw, Loader=loader)
    except Exception as exc:  # of hostile YAML it raises AttributeError, IndexError, KeyError … as well
        raise DecodeError(f"no YAML: {exc}") from exc
    if too_deep or value_nests_deeper(value, limits.max_depth, max_containers=len(raw) + _MAX_ALIASED):
        raise DecodeError(f"YAML is nested deeper than {limits.max_depth} levels, or its aliases explode")
    return value


def _events_nest_deeper(yaml: Any, loader: Any, raw: bytes, depth: int) -> bool:  # see _library
    level = 0
    for event in yaml.parse(raw, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > depth:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
    return False


@functools.cache
def _library() -> tuple[Any, Any]:  # PyYAML has no types, and is optional
    yaml = importlib.import_module("yaml")
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def flatten_mapping(_self: object, node: Any) -> None:
        if any(key.tag == _MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merge keys are not read", node.start_mark)

    def number(construct: Any) -> Any:
        def construct_number(self: object, node: Any) -> Any:
            if len(node.value) > _MAX_NUMBER:
                raise yaml.constructor.ConstructorError(None, None, "number too long", node.start_mark)
            return construct(self, node)

        return construct_number

    loader = type("BoundedLoader", (base,), {"flatten_mapping": flatten_mapping})
    for tag in _NUMBERS:
        loader.add_constructor(tag, number(base.yaml_constructors[tag]))
    return yaml, loader
