"""What becomes of a chord when members of its header have failed: asyncq's own, beside what Celery's format knows.

The policy stands among the headers of the body, in the chord's signature and in the messages of its header: Celery's
clients and workers carry these along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

__all__ = ["ChordPolicy", "split_policy", "with_policy"]

# `Any` below: documents, which anybody may have written.

_HEADER = "asyncq-chord"


class ChordPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the body runs, and with what, when a member of the header has failed."""

    #: `fail`, as Celery; `collect`: the body gets the failure in place of a value.
    on_error: str = "fail"
    #: As `collect`, if so many have succeeded (a whole number), or such a share of them (a fraction).
    threshold: int | float | None = None

    @property
    def fails_at_once(self) -> bool:
        return self.on_error == "fail" and self.threshold is None

    def is_met(self, succeeded: int, total: int) -> bool:
        if self.threshold is None:
            return True
        # Rounded, since 0.07 * 100 is a little more than 7.
        return succeeded >= (self.threshold if isinstance(self.threshold, int) else round(self.threshold * total, 9))


def with_policy(body: dict[str, Any], policy: ChordPolicy | None) -> dict[str, Any]:
    """The body's document as it stands in a chord, and in the messages of its header."""
    if policy is None:
        return body
    options: Mapping[str, Any] = body["options"]
    own: Mapping[str, Any] = options.get("headers") or {}
    headers = {**own, _HEADER: msgspec.to_builtins(policy)}
    return {**body, "options": {**options, "headers": headers}}


def split_policy(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ChordPolicy | None]:
    """The document without it, so that what is sent for the body doesn't inherit it; and the policy.

    None where there is none, or none that could be meant.
    """
    options: object = body.get("options")
    headers = cast("Mapping[str, Any]", options).get("headers") if isinstance(options, Mapping) else None
    if not isinstance(headers, Mapping) or _HEADER not in headers:
        return body, None
    others = {name: value for name, value in cast("Mapping[str, Any]", headers).items() if name != _HEADER}
    left = {name: value for name, value in cast("Mapping[str, Any]", options).items() if name != "headers"}
    if others:
        left["headers"] = others
    try:
        policy = msgspec.convert(headers[_HEADER], ChordPolicy)
    except msgspec.ValidationError:
        policy = None
    return {**body, "options": left}, policy
