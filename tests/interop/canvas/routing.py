"""How a canvas is spread over workers of both kinds, so that neither can be too quick for the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle


class InTurns:
    """A router, as both libraries take it: one message to each queue, then it begins anew."""

    def __init__(self, queues: Sequence[str]) -> None:
        self.begin(queues)

    def begin(self, queues: Sequence[str]) -> None:
        self._queues = cycle(queues)

    def __call__(self, name: str, args: object, kwargs: object, options: object, task: object = None) -> str:
        return next(self._queues)
