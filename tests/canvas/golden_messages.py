"""Compares messages that asyncq makes with those that were captured, up to a consistent renaming of ids."""

from __future__ import annotations

import re
from typing import Any

import golden
from asyncq.protocol import TaskMessage, WireMessage, decode_task

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

#: What a message says of a canvas.
_FIELDS = (
    *("task", "id", "args", "kwargs", "group", "group_index", "root_id", "parent_id", "replaced_task_nesting"),
    *("callbacks", "errbacks", "chain", "chord", "stamped_headers", "stamps"),
)


def captured(name: str) -> TaskMessage:
    return read(golden.amqp_message(golden.load("amqp", name)))


def read(wire: WireMessage) -> TaskMessage:
    """With a chain that can be compared part by part, and changed."""
    message = decode_task(wire)
    message.chain = None if message.chain is None else list(message.chain)
    return message


def family(name: str) -> list[TaskMessage]:
    """All messages of a capture: `chord` is `chord-1of2` and `chord-2of2`."""
    found = [each for each in golden.names("amqp") if each == name or re.fullmatch(rf"{re.escape(name)}-\dof\d", each)]
    assert found, f"no capture is called {name}"
    return [captured(each) for each in found]


class Renaming:
    """Which of our ids stands for which of theirs: one for one."""

    def __init__(self) -> None:
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def check(self, ours: TaskMessage, theirs: TaskMessage) -> None:
        """Raises AssertionError where the two differ in more than ids."""
        for name in _FIELDS:
            self._same(getattr(ours, name), getattr(theirs, name), name)
        self._same(ours.properties.reply_to, theirs.properties.reply_to, "reply_to")

    def _same(self, ours: Any, theirs: Any, where: str) -> None:
        if isinstance(ours, str) and isinstance(theirs, str) and _ID.fullmatch(theirs):
            assert _ID.fullmatch(ours), f"{where}: {ours} is no id"
            assert self._theirs.setdefault(ours, theirs) == theirs, f"{where}: {ours} stands for another id elsewhere"
            assert self._ours.setdefault(theirs, ours) == ours, f"{where}: {theirs} is another id of ours elsewhere"
        elif isinstance(ours, dict) and isinstance(theirs, dict):
            assert ours.keys() == theirs.keys(), f"{where}: {ours} and {theirs}"
            for key in theirs:
                self._same(ours[key], theirs[key], f"{where}.{key}")
        elif isinstance(ours, list) and isinstance(theirs, list):
            assert len(ours) == len(theirs), f"{where}: {ours} and {theirs}"
            for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
                self._same(our, their, f"{where}[{index}]")
        else:
            assert ours == theirs, where


def signatures_in(message: TaskMessage) -> list[dict[str, Any]]:
    """Every signature that a message carries at its top."""
    lists = [message.callbacks, message.errbacks, message.chain, [message.chord] if message.chord else None]
    inner = message.kwargs.get("task")
    return [each for found in lists for each in found or []] + ([inner] if isinstance(inner, dict) else [])
