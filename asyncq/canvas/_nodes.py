"""Signatures as data, and their form in messages: Celery's signature dicts (canvas.md, 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, cast

from msgspec import Struct, field

from asyncq.canvas._policies import ChordPolicy, split_policy, with_policy
from asyncq.errors import SignatureError

__all__ = ["ChainNode", "ChordNode", "GroupNode", "Node", "TaskNode", "read_node"]

# `Any` below: arguments and options are the caller's, of whatever type.

#: Names under which the compound kinds stand in messages.
_CHAIN, _GROUP, _CHORD = "celery.chain", "celery.group", "celery.chord"


class TaskNode(Struct, kw_only=True):
    """A call of one task; `celery.map`, `celery.starmap` and `celery.chunks` are such calls, too."""

    task: str
    args: list[Any] = field(default_factory=list[Any])
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    #: Options of the call in Celery's words, null for "not said"; once frozen its `task_id`, too.
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    #: Takes no arguments from what runs before it.
    immutable: bool = False

    def to_dict(self) -> dict[str, Any]:
        return _document(self.task, self.args, self.kwargs, self, None)


class ChainNode(Struct, kw_only=True):
    """One after the other, each with the result of the one before."""

    tasks: list[Node]
    args: list[Any] = field(default_factory=list[Any])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    immutable: bool = False
    #: Its name in messages.
    task: ClassVar[str] = _CHAIN

    @property
    def last(self) -> Node:
        """The step whose result is the chain's. Raises SignatureError where there is none."""
        if not self.tasks:
            raise SignatureError("a chain without steps has no result")
        return self.tasks[-1]

    def to_dict(self) -> dict[str, Any]:
        return _document(self.task, self.args, {"tasks": [each.to_dict() for each in self.tasks]}, self, "chain")


class GroupNode(Struct, kw_only=True):
    """Side by side. The tasks may be any iterable, read once, where a group is sent as it is made."""

    tasks: Iterable[Node]
    args: list[Any] = field(default_factory=list[Any])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    immutable: bool = False
    #: Its name in messages.
    task: ClassVar[str] = _GROUP

    def to_dict(self) -> dict[str, Any]:
        return _document(self.task, self.args, {"tasks": [each.to_dict() for each in self.tasks]}, self, "group")


class ChordNode(Struct, kw_only=True):
    """A header, side by side, and a body that gets the list of its results."""

    header: GroupNode
    body: Node | None
    args: list[Any] = field(default_factory=list[Any])
    #: Arguments by name for the body.
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    immutable: bool = False
    #: What becomes of it when members have failed; None is Celery's: it fails.
    policy: ChordPolicy | None = None
    #: Its name in messages.
    task: ClassVar[str] = _CHORD

    def to_dict(self) -> dict[str, Any]:
        """Frozen, the header is a group's dict, which holds the group's id; else a list, as Celery has it."""
        header = self.header.to_dict()
        kwargs = {
            "kwargs": self.kwargs,
            "header": header if self.header.options else header["kwargs"]["tasks"],
            "body": None if self.body is None else with_policy(self.body.to_dict(), self.policy),
        }
        return _document(self.task, self.args, kwargs, self, "chord")


Node: TypeAlias = TaskNode | ChainNode | GroupNode | ChordNode


def read_node(document: object) -> Node:
    """Read a signature dict, by `subtask_type` first, then by the task's name.

    Raises SignatureError, which says what is wrong and where, and shows no argument.
    """
    if not isinstance(document, Mapping):
        raise SignatureError(f"a signature must be an object, not {type(document).__name__}")
    given = cast("Mapping[str, Any]", document)
    name, kind = given.get("task"), given.get("subtask_type")
    if not isinstance(name, str) or not name:
        raise SignatureError("a signature must name its task")
    if not isinstance(kind, str | None):
        raise SignatureError(f"the signature of {name}: subtask_type must be a text, not {type(kind).__name__}")
    reader = _READERS.get(_KINDS.get(name, "") if kind is None else kind, _read_task)
    return reader(given)


def _read_task(given: Mapping[str, Any]) -> TaskNode:
    name: str = given["task"]
    return TaskNode(
        task=name,
        args=_list(given, "args", name),
        kwargs=_object(given, "kwargs", name),
        **_common(given, name),
    )


def _read_chain(given: Mapping[str, Any]) -> ChainNode:
    return ChainNode(tasks=_tasks(given, "tasks", _CHAIN), args=_list(given, "args", _CHAIN), **_common(given, _CHAIN))


def _read_group(given: Mapping[str, Any]) -> GroupNode:
    return GroupNode(tasks=_tasks(given, "tasks", _GROUP), args=_list(given, "args", _GROUP), **_common(given, _GROUP))


def _read_chord(given: Mapping[str, Any]) -> ChordNode:
    kwargs = _object(given, "kwargs", _CHORD)
    header = kwargs.get("header")
    if isinstance(header, Mapping):
        group = _read_group(cast("Mapping[str, Any]", header))
    else:
        group = GroupNode(tasks=_tasks(given, "header", _CHORD))
    body, policy = kwargs.get("body"), None
    if isinstance(body, Mapping):
        body, policy = split_policy(cast("Mapping[str, Any]", body))
    return ChordNode(
        header=group,
        body=None if body is None else read_node(body),
        policy=policy,
        args=_list(given, "args", _CHORD),
        kwargs=_object(kwargs, "kwargs", _CHORD),
        **_common(given, _CHORD),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Node]] = {
    "chain": _read_chain,
    "group": _read_group,
    "chord": _read_chord,
}
_KINDS: Mapping[str, str] = {_CHAIN: "chain", _GROUP: "group", _CHORD: "chord"}


def _tasks(given: Mapping[str, Any], name: str, kind: str) -> list[Node]:
    found = _object(given, "kwargs", kind).get(name)
    if not isinstance(found, list | tuple):
        raise SignatureError(f"the signature of {kind} must have a list of {name}")
    return [read_node(each) for each in cast("list[object]", found)]


def _common(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    options = _object(given, "options", name)
    for option, value in options.items():
        check = _CHECKS.get(option)
        if value is not None and check is not None and not check(value):
            raise SignatureError(f"the signature of {name}: {option} can't be {type(value).__name__}")
    return {"options": options, "immutable": bool(given.get("immutable"))}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _are_objects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_object, cast("Sequence[object]", value)))


def _are_links(value: object) -> bool:
    return _is_object(value) or _are_objects(value)


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple | set) and all(map(_is_text, cast("Collection[object]", value)))


#: Of options that say where a call belongs, and what follows it; those that say how it is sent are the sender's matter.
_CHECKS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("task_id", "group_id", "root_id", "parent_id", "reply_to"), _is_text),
    **dict.fromkeys(("group_index", "replaced_task_nesting"), _is_number),
    **dict.fromkeys(("chord", "headers"), _is_object),
    **dict.fromkeys(("link", "link_error"), _are_links),
    "chain": _are_objects,
    "stamped_headers": _are_names,
}


def _list(given: Mapping[str, Any], key: str, name: str) -> list[Any]:
    """A copy of a part that must be a list; null and none at all are an empty one."""
    found: object = given.get(key)
    if not isinstance(found, (list, tuple, type(None))):
        raise SignatureError(f"the signature of {name}: {key} must be a list, not {type(found).__name__}")
    return list(cast("list[Any]", found or ()))


def _object(given: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """A copy of a part that must be an object; null and none at all are an empty one."""
    found: object = given.get(key)
    if not isinstance(found, (Mapping, type(None))):
        raise SignatureError(f"the signature of {name}: {key} must be an object, not {type(found).__name__}")
    return dict(cast("Mapping[str, Any]", found or {}))


def _document(task: str, args: list[Any], kwargs: dict[str, Any], node: Node, kind: str | None) -> dict[str, Any]:
    return {
        "task": task,
        "args": list(args),
        "kwargs": dict(kwargs),
        "options": dict(node.options),
        "subtask_type": kind,
        "immutable": node.immutable,
    }
