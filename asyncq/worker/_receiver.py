"""Takes deliveries from the broker, as many as there is room for, and decides which of them may run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import anyio

from asyncq.driver import Dead, Delivery, GiveBack, Park
from asyncq.errors import BrokerError, ConfigurationError, DecodeError
from asyncq.protocol import TaskMessage, decode_task
from asyncq.worker._adoption import Adoption
from asyncq.worker._attempt import Attempt, Surroundings
from asyncq.worker._backoff import Backoff
from asyncq.worker._concluder import Concluder
from asyncq.worker._dispatcher import Dispatcher
from asyncq.worker._flow import Flow
from asyncq.worker._hold import Hold
from asyncq.worker._journal import Journal
from asyncq.worker._judge import Judge
from asyncq.worker._outcome import Revoked
from asyncq.worker._program import Program
from asyncq.worker._rate_gate import RateGate
from asyncq.worker._revoker import Revoker
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._suspects import DeliveryCounts, Suspects

logger = logging.getLogger(__name__)

#: Bytes of messages held, from which on nothing more is taken.
MOST_BYTES = 64 * 1024 * 1024


class Receiver:
    """The intake. It goes on through every loss of the broker until it is cancelled."""

    def __init__(
        self,
        *,
        setup: WorkerSetup,
        programs: Mapping[str, Program],
        surroundings: Surroundings,
        hold: Hold,
        flow: Flow,
        judge: Judge,
        journal: Journal,
        concluder: Concluder,
        dispatcher: Dispatcher,
        gate: RateGate,
        revoker: Revoker | None,
        suspects: Suspects | None,
        counts: DeliveryCounts | None,
        adoption: Adoption | None,
    ) -> None:
        self._programs = programs
        self._surroundings = surroundings
        self._consumer = hold.consumer
        self._leases = hold.leases
        self._settler = hold.settler
        self._maintenance = hold.maintenance
        self._flow = flow
        self._judge = judge
        self._journal = journal
        self._concluder = concluder
        self._dispatcher = dispatcher
        self._gate = gate
        self._revoker = revoker
        self._suspects = suspects
        self._counts = counts
        self._adoption = adoption
        self._backoff = Backoff(setup.environment.random)
        self._clock = setup.environment.clock
        self._accept = frozenset(setup.accept)

    async def run(self) -> None:
        while True:
            try:
                await self.run_once()
            except (BrokerError, ConfigurationError) as error:  # it was right when the worker started
                if not self._backoff.failing:
                    logger.warning("Nothing can be received, will try again: %s", error)
                await anyio.sleep(self._backoff.next_delay())

    async def run_once(self) -> None:
        """Take one batch and admit it."""
        room = await self._flow.wait_for_room()
        while self._leases.held_bytes >= MOST_BYTES:
            await self._flow.change()
        deliveries = await self._consumer.receive(room)
        if self._backoff.reset():
            logger.info("Receiving again")
        self._leases.hold(deliveries)
        self._journal.received(len(deliveries))
        if self._revoker is not None or self._adoption is not None:
            await self._look_up(deliveries)
        for delivery in deliveries:
            self._admit(delivery)

    async def _look_up(self, deliveries: Sequence[Delivery]) -> None:
        try:
            if self._revoker is not None:
                await self._revoker.look()
            if self._adoption is not None:
                await self._adoption.look(deliveries)
        except asyncio.CancelledError:  # the worker stops: these never started
            for delivery in deliveries:
                self._settler.put(GiveBack(delivery))
            self._flow.stats.handed_back += len(deliveries)
            raise

    def _admit(self, delivery: Delivery) -> None:
        """Send one delivery on its way. Whatever is wrong with it is its own affair, and ends no worker."""
        try:
            self._decide(delivery)
        except Exception as error:  # noqa: BLE001 - logged there
            self._refuse(delivery, error)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        logger.error("A delivery from %s could not be admitted", delivery.queue, exc_info=error)
        self._bury(delivery, f"could not be admitted: {type(error).__name__}")

    def _decide(self, delivery: Delivery) -> None:
        try:
            message = decode_task(delivery.content, limits=self._surroundings.limits, accept=self._accept)
        except DecodeError as error:
            self._bury(delivery, f"undecodable: {error}")
            return
        if self._adoption is not None and self._adoption.adopt(delivery, message):
            return
        program = self._programs.get(message.task)
        if program is None:
            conclusion = self._judge.unregistered(delivery, message)
            self._journal.unknown(message.task, delivery, dead=isinstance(conclusion.settlement, Dead))
            self._concluder.put(conclusion)
        elif message.lost is not None:
            self._concluder.put(self._judge.lost_before(self._attempt(delivery, message, program)))
        elif message.eta is None and message.expires is None:
            self._look_at(self._attempt(delivery, message, program))
        else:
            self._admit_timed(delivery, message, program)

    def _admit_timed(self, delivery: Delivery, message: TaskMessage, program: Program) -> None:
        now = self._clock.wall()
        if message.expires is not None and now > message.expires.timestamp():
            self._concluder.put((self._attempt(delivery, message, program), Revoked("expired")))
        elif message.eta is not None and (until := message.eta.timestamp()) > now:
            # Nothing waits in memory: the broker keeps it, and returns it to its queue when it is due.
            self._settler.put(Park(delivery, until))
            self._maintenance.due(until)
            self._journal.parked(message.task, message.id, until, delivery)
        else:
            self._look_at(self._attempt(delivery, message, program))

    def _look_at(self, attempt: Attempt) -> None:
        if self._suspects is not None and attempt.delivery.redelivered:
            self._suspects.put(attempt, self._let_in_later)
        else:
            if self._counts is not None:
                self._counts.look_at(attempt)
            self._let_in(attempt)

    def _let_in_later(self, attempt: Attempt) -> None:
        try:
            self._let_in(attempt)
        except Exception as error:  # noqa: BLE001 - as in `_admit`, which has long returned
            self._refuse(attempt.delivery, error)

    def _let_in(self, attempt: Attempt) -> None:
        limit = attempt.program.limit
        if limit is None:
            self._dispatcher.admit(attempt)
        else:
            self._gate.put(attempt, limit)

    def _attempt(self, delivery: Delivery, message: TaskMessage, program: Program) -> Attempt:
        return Attempt(delivery, message, program, self._surroundings)

    def _bury(self, delivery: Delivery, reason: str) -> None:
        self._journal.buried(delivery, reason)
        self._settler.put(self._judge.bury(delivery, reason))
