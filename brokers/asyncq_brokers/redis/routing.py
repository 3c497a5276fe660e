"""Bindings: how kombu's producers find a queue behind an exchange, and how we do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asyncq.driver import Queue

from .keys import Keys

__all__ = ["binding_member", "matching_queues", "x_expires"]


def x_expires(queue: Queue) -> int | None:
    """Milliseconds without use after which a queue goes; None keeps it."""
    value = queue.arguments.get("x-expires")
    return int(value) if isinstance(value, int | float | str) and str(value).isdigit() else None


def binding_member(keys: Keys, queue: Queue) -> tuple[str, str]:
    """Exchange of a queue, and the member that its binding set must have."""
    exchange = queue.name if queue.exchange is None else queue.exchange
    routing_key = queue.name if queue.routing_key is None else queue.routing_key
    pattern = topic_pattern(routing_key) if queue.exchange_type == "topic" else ""
    return exchange, keys.member(routing_key, pattern, queue.name)


def matching_queues(keys: Keys, members: Iterable[bytes], routing_key: str) -> list[str]:
    """The queues that an exchange's bindings give for a routing key, each once, sorted.

    Exchanges are not stored, only bindings: one with a pattern belongs to a topic exchange, any other is compared.
    """
    queues: set[str] = set()
    for member in members:
        binding = keys.split_member(member)
        if binding is not None and _matches(binding[0], binding[1], routing_key):
            queues.add(binding[2])
    return sorted(queues)


def topic_pattern(routing_key: str) -> str:
    """The regular expression that kombu makes of a topic, to the character: members are compared as text."""
    wildcards = {"*": r"[^\.]+", "#": ".*?"}
    words = (wildcards.get(word) or _escape(word) for word in routing_key.split("."))
    return "^" + r"\.".join(words) + "$"


def _escape(word: str) -> str:
    return "".join(c if c.isalnum() or c in "#*" else f"\\{c}" for c in word)


def _matches(bound: str, pattern: str, routing_key: str) -> bool:
    if not pattern:
        return bound == routing_key
    # The bound key is ours to translate: a stranger's expression could take for ever.
    return re.match(topic_pattern(bound), routing_key) is not None
