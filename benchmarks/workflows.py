"""The workflows that are measured. All their tasks do nothing; the last one writes down the time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .apps.sender import CanvasSender


@dataclass(frozen=True)
class Workflow:
    """One, or several that are under way at the same time."""

    #: No other's.
    title: str
    kind: Literal["chord", "replaced", "chain"]
    #: In the header, or before the chain's last one.
    calls: int
    at_once: int = 1

    @property
    def tasks(self) -> int:
        """That run in all."""
        return self.at_once * (self.calls + 1)

    @property
    def names(self) -> list[str]:
        """Under which their ends are written down."""
        return [f"{self.title} {number}" for number in range(self.at_once)]

    def scaled(self, size: float) -> Workflow:
        at_once = 1 if self.at_once == 1 else max(2, int(self.at_once * size))
        return replace(self, calls=max(3, int(self.calls * size)), at_once=at_once)

    async def send(self, sender: CanvasSender) -> None:
        for name in self.names:
            match self.kind:
                case "chord":
                    await sender.chord(self.calls, name)
                case "replaced":
                    await sender.replaced(self.calls, name)
                case "chain":
                    await sender.chain(self.calls, name)


#: Before the clock starts: connections, caches, lazy imports.
WARM_UP = (Workflow("first chord", "chord", 200), Workflow("first chain", "chain", 20))

WORKFLOWS = (
    Workflow("chord of 1,000", "chord", 1_000),
    Workflow("chord of 10,000", "chord", 10_000),
    Workflow("chord of 1,000 that a task sends", "replaced", 1_000),
    Workflow("chain of 100", "chain", 100),
    Workflow("50 chains of 100", "chain", 100, at_once=50),
)
