"""Bodies of chords start once, however often they were sent.

Whoever ends a chord may lose the claim while the body is on its way; then another one sends it, too. Each sending has a
name of its own: the first that starts puts it down, and a message of another name is a second sending. A message of the
same name is a delivery that comes again, or a retry, and runs.
"""

from __future__ import annotations

import logging

from asyncq._suspicion import key_of
from asyncq.driver import Coordination, Fact
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._attempt import Attempt

logger = logging.getLogger("asyncq.worker")

#: Seconds that a body's start is remembered: longer than anybody takes to find that its chord is still open.
_TTL = 86400.0


class Dispatches:
    """Which sending of a body has started."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def begin(self, attempt: Attempt) -> bool:
        """Return False when another sending of it has started before. While the store is away, it runs."""
        fact = Fact(
            key=f"dispatched.{key_of(attempt.message.id)}", value=(attempt.message.dispatch or "").encode(), ttl=_TTL
        )
        try:
            if (await self._coordination.put([fact], if_absent=True))[0]:
                return True
            [started] = await self._coordination.get([fact.key])
        except (BrokerError, BackendError) as error:
            logger.warning("Whether %s was sent twice can't be found out, it runs: %s", attempt, error)
            return True
        if started is None or started == fact.value:
            return True
        logger.info("%s was sent twice, and has started before: dropped", attempt, extra=attempt.log_fields())
        return False
