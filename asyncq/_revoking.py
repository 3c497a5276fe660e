"""Revocations: how they are kept, by whoever asks for them, and read, by the workers.

Each is a fact of its own, so that they expire one by one, and a counter tells that there is a new one: a worker looks
at the counter with each batch that it takes, and reads the facts only when it has moved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from msgspec import Struct

from asyncq.driver import Coordination, Fact

logger = logging.getLogger(__name__)

#: Seconds that a revocation is kept: longer than most tasks wait for their time. A worker that was away honours it.
REVOCATION_TTL = 30 * 86400.0

#: The fact that moves with each revocation.
COUNTER = "revocations"
_PREFIX = "revoked."


class Revocation(Struct, frozen=True):
    """Somebody doesn't want a task to run (any more)."""

    task_id: str
    #: Cancel it where it runs already.
    terminate: bool = False


_decode = msgspec.json.Decoder(Revocation).decode


async def keep_revocation(
    coordination: Coordination, revocation: Revocation, *, new_id: Callable[[], str], ttl: float = REVOCATION_TTL
) -> None:
    """Keep a revocation for `ttl` seconds. The fact comes first: whoever sees the counter move must find it."""
    fact = Fact(key=f"{_PREFIX}{new_id()}", value=msgspec.json.encode(revocation), ttl=ttl)
    await coordination.put([fact])
    await coordination.incr(COUNTER, ttl=ttl)


class Revocations:
    """What a worker knows of revocations."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination
        self._counted: bytes | None = None
        self._by_task: dict[str, Revocation] = {}

    def get(self, task_id: str) -> Revocation | None:
        """The revocation of a task, as of the last refresh."""
        return self._by_task.get(task_id)

    def is_known(self, counted: bytes | None) -> bool:
        """Whether all that was counted so far was read."""
        return counted == self._counted

    async def refresh(self) -> bool:
        """Read what is new; return whether anything is. Raises BrokerError, BackendError."""
        [counted] = await self._coordination.get([COUNTER])
        if counted == self._counted:
            return False
        known: dict[str, Revocation] = {}
        for _, value in await self._coordination.scan(_PREFIX):
            try:
                revocation = _decode(value)
            except msgspec.DecodeError as error:  # a later version's, say: the others count all the same
                logger.warning("A revocation can't be read: %s", error)
                continue
            before = known.get(revocation.task_id)
            if before is None or not before.terminate:
                known[revocation.task_id] = revocation
        self._by_task, self._counted = known, counted
        return True
