"""What a policy of a cloud must allow a driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

#: Who needs a permission.
Role: TypeAlias = Literal["producer", "worker"]

#: One statement of an IAM policy, as its JSON has it.
PolicyStatement: TypeAlias = Mapping[str, str | Sequence[str]]


@runtime_checkable
class Permitted(Protocol):
    """A broker or a result backend in a cloud, where a policy says who may do what."""

    def policy(self, role: Role, queues: Sequence[str]) -> list[PolicyStatement]:
        """The least that a role must be allowed for these queues. Shows no secret, and asks no server."""
        ...
