"""Unique tasks: at most one of a kind at a time, by a fact that whoever sends first puts down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

from msgspec import Struct

from asyncq._argument_keys import KeyOf, KeySpec, key_maker

__all__ = ["HEADER", "Claim", "Unique", "UniqueRule"]

#: Seconds that a claim of a queued or running task is kept beyond its ETA, should it never be given back.
CLAIM_TTL = 86400.0

#: Header of a message that holds a claim: {"key": …, "scope": "queued" or "running"}.
HEADER = "asyncq-unique"

Scope: TypeAlias = Literal["queued", "running"]
OnConflict: TypeAlias = Literal["return", "skip", "raise"]


class Unique(Struct, frozen=True, kw_only=True):
    """How a task is unique: `@queue.task(unique=Unique(by="user_id"))`; `unique=True` stands for the defaults."""

    #: What tells calls apart: names of parameters, or a function of the arguments; None: all arguments.
    by: KeySpec | None = None
    #: How long a call keeps others away: while it is `queued`, until it has ended (`running`), or for so many seconds
    #: from its send.
    scope: Scope | float = "running"
    #: What a second send gets: the handle of the first (`return`), the same with nothing to wait for (`skip`), or a
    #: DuplicateTaskError (`raise`).
    on_conflict: OnConflict = "return"


class UniqueRule(Struct, frozen=True, kw_only=True, eq=False):
    """The same, made ready for one task."""

    key_of: KeyOf
    scope: Scope | float
    on_conflict: OnConflict


class Claim(Struct, frozen=True, kw_only=True):
    """What a send needs before its message may go out."""

    key: str
    #: None for a claim that nobody gives back: it expires.
    scope: Scope | None
    #: Seconds.
    ttl: float
    on_conflict: OnConflict = "return"
    #: Kept in full even when nobody knows whether the message has gone out: better not at all than twice.
    firm: bool = False

    def header(self) -> dict[str, Any] | None:
        """What the worker is told, so that it can give the claim back."""
        return None if self.scope is None else {"key": self.key, "scope": self.scope}


def compile_unique(
    spec: Unique | bool | None, task: str, fn: Callable[..., Any], *, takes_context: bool
) -> UniqueRule | None:
    """Make a task's rule. Raises ConfigurationError for a parameter that the task has not, ValueError."""
    if spec is None or spec is False:
        return None
    unique = Unique() if spec is True else spec
    if isinstance(unique.scope, int | float) and not unique.scope > 0:
        raise ValueError(f"unique: a window must be longer than {unique.scope} seconds")
    key_of = key_maker(task, fn, unique.by, takes_context=takes_context)
    return UniqueRule(key_of=key_of, scope=unique.scope, on_conflict=unique.on_conflict)


def claim_of_rule(rule: UniqueRule, args: Sequence[Any], kwargs: Mapping[str, Any], *, delay: float) -> Claim:
    """The claim of one call, which starts in `delay` seconds at the earliest. Raises EncodeError."""
    key = f"unique.{rule.key_of(args, kwargs)}"
    if isinstance(rule.scope, int | float):
        return Claim(key=key, scope=None, ttl=float(rule.scope), on_conflict=rule.on_conflict)
    return Claim(key=key, scope=rule.scope, ttl=CLAIM_TTL + delay, on_conflict=rule.on_conflict)


def claim_of_idempotency_key(task: str, key: str) -> Claim:
    """The claim of a key of the caller's own: for a day, a second send with it gets the handle of the first."""
    digest = hashlib.sha256(f"{task}\x00{key}".encode()).hexdigest()[:32]
    return Claim(key=f"once.{digest}", scope=None, ttl=CLAIM_TTL, firm=True)


def claim_of_header(headers: Mapping[str, Any]) -> tuple[str, Scope] | None:
    """Key and scope of the claim that a message holds; None when it holds none, or something else."""
    found = headers.get(HEADER)
    if not isinstance(found, dict):
        return None
    claim = cast("dict[str, Any]", found)
    key, scope = claim.get("key"), claim.get("scope")
    # Whoever may write a queue may write this, too: it must not reach any other fact.
    if isinstance(key, str) and key.startswith("unique.") and scope in {"queued", "running"}:
        return key, scope
    return None
