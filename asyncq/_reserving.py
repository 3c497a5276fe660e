"""Claims around a send: reserved before the messages go out, kept when they have gone, given back when they haven't."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
from msgspec import Struct

from asyncq._unique import Claim
from asyncq.driver import Clock, Coordination, Fact
from asyncq.errors import BackendError, BrokerError

__all__ = ["Reservation", "Wanted"]

logger = logging.getLogger(__name__)

#: Seconds that a claim outlives the publish that it was made for, while nobody knows whether the message is there.
_UNSURE = 60.0


class Wanted(Struct, frozen=True):
    """A claim, and the task that shall have it."""

    claim: Claim
    task_id: str

    def fact(self, ttl: float) -> Fact:
        return Fact(key=self.claim.key, value=self.task_id.encode(), ttl=ttl)


class Reservation:
    """The claims of one send.

    They live shortly until they are confirmed. A sender that dies, or that never hears whether its message is there,
    thus keeps others away for a minute or so and not for a day.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        *,
        publish_timeout: float,
        ended: Callable[[Sequence[str]], Awaitable[set[str]]],
    ) -> None:
        """`publish_timeout`: seconds that one publish may take. `ended`: tells which of some tasks have ended."""
        self._coordination = coordination
        self._ended = ended
        self._clock = clock
        self._began = clock.monotonic()
        # A message may have to wait for the publish before its own.
        self._short = 2 * publish_timeout + _UNSURE

    async def take(self, wanted: Sequence[Wanted]) -> list[str | None]:
        """Put claims down, in one round trip; of each that is taken, return the id of the task that has it.

        Raises BrokerError, BackendError.
        """
        facts = [each.fact(each.claim.ttl if each.claim.firm else min(each.claim.ttl, self._short)) for each in wanted]
        holders: list[str | None] = [None] * len(facts)
        try:
            # A claim may expire between the two looks; then it is tried again.
            open_positions = list(range(len(facts)))
            while open_positions:
                put = await self._coordination.put([facts[position] for position in open_positions], if_absent=True)
                taken = [position for position, done in zip(open_positions, put, strict=True) if not done]
                if not taken:
                    break
                values = await self._coordination.get([facts[position].key for position in taken])
                for position, value in zip(taken, values, strict=True):
                    holders[position] = None if value is None else value.decode()
                await self._clear_ended(wanted, holders, taken)
                open_positions = [position for position in taken if holders[position] is None]
        except asyncio.CancelledError:
            await self.give_back(wanted)
            raise
        return holders

    async def _clear_ended(self, wanted: Sequence[Wanted], holders: list[str | None], positions: Sequence[int]) -> None:
        """Claims of tasks that have ended keep nobody away: their worker is about to give them back, or never will."""
        running = {position: holder for position in positions if (holder := holders[position]) is not None}
        running = {
            position: holder for position, holder in running.items() if wanted[position].claim.scope == "running"
        }
        ended = await self._ended(list(running.values())) if running else set[str]()
        for position, holder in running.items():
            if holder in ended:
                await self._coordination.delete([wanted[position].claim.key], if_value=holder.encode())
                holders[position] = None

    async def confirm(self, sent: Iterable[Wanted]) -> None:
        """The messages are there: keep their claims for their full time, counted from the send.

        What a worker, which may be done already, has given back stays given back.
        """
        passed = self._clock.monotonic() - self._began
        lasting = [each for each in sent if not each.claim.firm and each.claim.ttl > max(self._short, passed)]
        if not lasting:
            return
        try:
            await self._coordination.put([each.fact(each.claim.ttl - passed) for each in lasting], if_same=True)
        except (BrokerError, BackendError) as error:  # the messages are there all the same
            logger.warning("Claims of %d unique tasks end early: %s", len(lasting), error)

    async def give_back(self, unsent: Iterable[Wanted]) -> None:
        """The messages have not gone out: let others in. Where that fails, the claims expire."""
        # Nobody waits longer than for one call's deadline; a second cancellation leaves it to the expiry.
        with anyio.CancelScope(shield=True):
            try:
                for each in unsent:
                    await self._coordination.delete([each.claim.key], if_value=each.task_id.encode())
            except (BrokerError, BackendError) as error:
                logger.warning("Claims of unique tasks that were not sent are kept: %s", error)
