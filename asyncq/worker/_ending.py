"""How a worker ends: when, and what becomes of what it holds."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import anyio

from asyncq.driver import Clock, Requeue
from asyncq.worker._concluder import Concluder
from asyncq.worker._coordinated import Coordinated
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._hold import Hold
from asyncq.worker._intake import Intake
from asyncq.worker._outcome import Interrupted

logger = logging.getLogger("asyncq.worker")

#: Seconds that it may take to end at once, however much `kill_grace` there is; and the least, however little.
_AT_ONCE, LEAST_GRACE = 1.0, 0.5

# Shares of the time after which running tasks are cancelled: until when they may clean up, outcomes are stored,
# deliveries and claims are given back. The rest is for closing connections, and for the interpreter.
_CLEAN_UP, _CONCLUDE, _HAND_BACK, _CLAIMS = 0.5, 0.75, 0.85, 0.9


class StopOrder:
    """Whether a worker shall end, and how soon."""

    def __init__(self, flow: Flow, clock: Clock) -> None:
        self._flow = flow
        self._clock = clock
        #: Monotonic seconds at which draining shall be over.
        self._over_at = math.inf
        self.asked = asyncio.Event()
        #: Running tasks are not waited for.
        self.at_once = False
        self._within = math.inf
        self._drain_until = math.inf

    def ask(self, within: float, *, at_once: bool = False) -> None:
        """Let what runs end within so many seconds. Asked again, the earlier end holds."""
        self.at_once = self.at_once or at_once
        if self.asked.is_set() and self._drain_until < math.inf:
            self._drain_until = min(self._drain_until, anyio.current_time() + within)
        self._within = min(self._within, within)
        self._over_at = min(self._over_at, self._clock.monotonic() + (0.0 if at_once else within))
        self.asked.set()
        self._flow.notify()

    def patience(self, kill_grace: float) -> float:
        """Seconds from now on in which all shall be over, clean-up included; infinity as long as nobody has asked."""
        return self._over_at + self.grace(kill_grace) - self._clock.monotonic()

    def grace(self, kill_grace: float) -> float:
        """Seconds for all that comes after draining."""
        grace = max(kill_grace, LEAST_GRACE)
        return min(grace, _AT_ONCE) if self.at_once else grace

    def drain_until(self) -> float:
        """The loop's time until which what runs may go on. The time runs from the first question on."""
        if self._drain_until == math.inf:
            self._drain_until = anyio.current_time() + self._within
        return -math.inf if self.at_once else self._drain_until


class Ending:
    """Lets running tasks end, cancels those that don't, concludes, and hands back the rest.

    From the moment when it cancels, all of it together takes `kill_grace` seconds at most: a supervisor, or whoever
    stops machines, kills then.
    """

    def __init__(
        self,
        order: StopOrder,
        *,
        kill_grace: float,
        hold: Hold,
        coordinated: Coordinated,
        flow: Flow,
        intake: Intake,
        executor: Executor,
        concluder: Concluder,
    ) -> None:
        self._order = order
        self._kill_grace = kill_grace
        self._flow = flow
        self._intake = intake
        self._executor = executor
        self._concluder = concluder
        self._leases = hold.leases
        self._settler = hold.settler
        self._claims = coordinated.claims
        self._files = coordinated.files
        self._cancelled_at = 0.0
        #: By delivery tag: where it stands in the flight table.
        self._slots: dict[str, int] = {}

    async def drain(self) -> None:
        """Let running tasks end, cancel the rest, conclude what has ended."""
        flow, order = self._flow, self._order
        self._executor.refuse_starts()
        self._intake.give_back()
        if flow.running and not order.at_once:
            left = order.drain_until() - anyio.current_time()
            logger.info("Stopping: %d tasks get %g s to end", flow.running, round(left, 1))
        await self._until(lambda: not flow.running, order.drain_until)
        self._cancelled_at = anyio.current_time()
        if flow.running:
            logger.info("Stopping: %d tasks are interrupted and handed back", flow.running)
            self._executor.interrupt()
            await self._until(lambda: not flow.running, lambda: self._share(_CLEAN_UP))
        abandoned = self._executor.abandon()
        for attempt in abandoned:
            logger.warning("%s did not end when it was cancelled; it is given up", attempt)
            self._slots[attempt.delivery.tag] = attempt.slot
            if attempt.acknowledged:  # nobody else will run it; what is not acknowledged goes back with the rest
                self._concluder.put((attempt, Interrupted()))
        if self._files is not None and abandoned:
            with anyio.move_on_after(self._share(_CONCLUDE) - anyio.current_time()):
                await self._files.rest(abandoned)
        await self._until(lambda: not flow.concluding, lambda: self._share(_CONCLUDE))
        if flow.concluding:
            logger.warning("%d outcomes could not be stored or sent in time", flow.concluding)

    async def hand_back(self) -> None:
        """See the last settlements off; whatever is held then did not end, or could not be stored."""
        leases, settler, claims = self._leases, self._settler, self._claims
        await self._until(lambda: not settler.busy, lambda: self._share(_HAND_BACK))
        for delivery in reversed(leases.deliveries):  # each goes to the front: the oldest last
            settler.put(Requeue(delivery, front=True), slot=self._slots.get(delivery.tag, 0))
        await self._until(lambda: not leases.held, lambda: self._share(_HAND_BACK))
        if leases.held:
            logger.warning("%d deliveries are unsettled; they come back when their leases end, or before", leases.held)
        if claims is not None:
            await self._until(lambda: not claims.busy, lambda: self._share(_CLAIMS))

    def _share(self, share: float) -> float:
        """The loop's time at which so much of what there is after cancelling is over."""
        return self._cancelled_at + share * self._order.grace(self._kill_grace)

    async def _until(self, condition: Callable[[], bool], deadline: Callable[[], float]) -> None:
        """Wait for a condition, no longer than to a deadline, which may be set earlier meanwhile."""
        while not condition() and (left := deadline() - anyio.current_time()) > 0:
            with anyio.move_on_after(left):
                await self._flow.change()
