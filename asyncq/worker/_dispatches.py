"""Bodies of chords start once, however often they were sent.

Whoever ends a chord may lose the claim while the body is on its way; then another one sends it, too. Each sending has a
name of its own, which begins with the chord's: the first that starts puts it down, and a message of another name for
the same chord is a second sending. A message of the same name is a delivery that comes again, or a retry, and runs.
"""

from __future__ import annotations

import logging
import random

import anyio

from asyncq._suspicion import key_of
from asyncq.driver import Clock, Coordination, Fact
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._attempt import Attempt
from asyncq.worker._backoff import Backoff

logger = logging.getLogger("asyncq.worker")

#: Seconds that a body's start is remembered: longer than anybody takes to find that its chord is still open.
_TTL = 86400.0

#: Seconds that a body waits for the store that remembers.
_PATIENCE = 30.0


def dispatch_name(group_id: str, token: str) -> str:
    """The name of the sending of a chord's body under this claim."""
    return f"{group_id}/{token}"


class Dispatches:
    """Which sending of a body has started."""

    def __init__(self, coordination: Coordination, clock: Clock, dice: random.Random) -> None:
        self._coordination = coordination
        self._clock = clock
        self._dice = dice

    async def begin(self, attempt: Attempt) -> bool:
        """Return False when another sending of it has started before.

        It waits for the store for a while, and runs when that stays away: better twice than never.
        """
        patient_until = self._clock.monotonic() + _PATIENCE
        backoff = Backoff(self._dice)
        while True:
            try:
                first = await self._is_first(attempt)
            except (BrokerError, BackendError) as error:
                if self._clock.monotonic() >= patient_until:
                    logger.warning("Whether %s was sent twice can't be found out, it runs: %s", attempt, error)
                    return True
                await anyio.sleep(backoff.next_delay())
            else:
                if not first:
                    logger.info(
                        "%s was sent twice, and has started before: dropped", attempt, extra=attempt.log_fields()
                    )
                return first

    async def _is_first(self, attempt: Attempt) -> bool:
        name = attempt.message.dispatch or ""
        # Bodies of several chords may have one id: the sender's own, or that of a body which a chord has replaced.
        chord = name.rpartition("/")[0]
        fact = Fact(key=f"dispatched.{key_of(f'{attempt.message.id}.{chord}')}", value=name.encode(), ttl=_TTL)
        if (await self._coordination.put([fact], if_absent=True))[0]:
            return True
        [started] = await self._coordination.get([fact.key])
        return started is None or started == fact.value
