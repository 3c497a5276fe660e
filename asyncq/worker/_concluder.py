"""Acts on conclusions: stores, publishes, settles, in that order for each task and in batches for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from asyncq._flight import FlightRecorder
from asyncq.driver import Ack, Park, Settlement, StoredResult
from asyncq.errors import BackendError
from asyncq.worker._attempt import Attempt
from asyncq.worker._canvas import Canvas
from asyncq.worker._conclusion import Conclusion
from asyncq.worker._coordinated import Coordinated
from asyncq.worker._flow import Flow
from asyncq.worker._hold import Hold
from asyncq.worker._journal import Journal
from asyncq.worker._judge import Judge
from asyncq.worker._outcome import Failed, Lost, Outcome
from asyncq.worker._outgoing import Outgoing, Refusal
from asyncq.worker._recorder import Recorder
from asyncq.worker._sequel import Sequel
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._wear import Wear

logger = logging.getLogger(__name__)

#: States after which a task does not come again.
_ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REPLACED", "IGNORED"})


class Concluder:
    """Gathers outcomes while a flush is under way; the next flush takes all of them. An idle queue never waits.

    The order of effects for one task: what follows from its success (callbacks, the next step), the record, what else
    follows (a retry, parts of chords, errbacks), the acknowledgement. A crash in between repeats work; it never loses
    it.
    """

    def __init__(
        self,
        *,
        setup: WorkerSetup,
        judge: Judge,
        journal: Journal,
        recorder: Recorder | None,
        canvas: Canvas,
        hold: Hold,
        coordinated: Coordinated,
        flow: Flow,
        flights: FlightRecorder | None,
        wear: Wear | None,
    ) -> None:
        self._judge = judge
        self._journal = journal
        self._recorder = recorder
        self._chords = canvas.chords
        self._errbacks = canvas.errbacks
        self._leases = hold.leases
        self._settler = hold.settler
        self._maintenance = hold.maintenance
        self._claims = coordinated.claims
        self._files = coordinated.files
        self._wills = coordinated.wills
        self._flow = flow
        self._outgoing = Outgoing(
            setup.broker, canvas.chords, hold.maintenance, confirm=self._confirm, dice=setup.environment.random
        )
        self._flights = flights
        self._wear = wear
        self._pending: list[tuple[Attempt, Outcome | Lost] | Conclusion] = []
        self._wanted = asyncio.Event()
        #: Went to somebody else; what is known of them is to be put right.
        self._dropped: list[Attempt] = []

    def put(self, item: tuple[Attempt, Outcome | Lost] | Conclusion) -> None:
        """Conclude soon."""
        self._flow.concluding += 1
        self._pending.append(item)
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._pending = self._pending, []
            await self._flush(batch)

    async def _flush(self, batch: Sequence[tuple[Attempt, Outcome | Lost] | Conclusion]) -> None:
        conclusions: list[Conclusion] = []
        for item in batch:
            conclusion = self._conclude(item)
            if conclusion is not None:
                conclusions.append(conclusion)
        await self._act_apart(conclusions)
        dropped, self._dropped = self._dropped, []
        if dropped and self._files is not None:
            await self._files.withdraw(dropped)
        self._flow.concluding -= len(batch)
        self._flow.notify()

    def _conclude(self, item: tuple[Attempt, Outcome | Lost] | Conclusion) -> Conclusion | None:
        if isinstance(item, Conclusion):
            return item
        attempt, outcome = item
        if isinstance(outcome, Lost):
            self._drop(attempt)
            return None
        try:
            return self._judge.conclude(attempt, outcome)
        except Exception as error:  # a hostile __repr__, a fault of ours: this one fails, the batch goes on
            logger.exception("The outcome of %s could not be concluded", attempt)
            return self._judge.give_up(attempt, error)

    async def _act_apart(self, conclusions: Sequence[Conclusion]) -> None:
        """Act on them; where a driver raises what it never should, that costs the one it is about, and no worker.

        To find that one, the others are acted on again: as after a crash, which repeats work and loses none.
        """
        try:
            await self._act(conclusions)
        except Exception as error:  # noqa: BLE001 - logged there
            if len(conclusions) > 1:
                for conclusion in conclusions:
                    await self._act_apart([conclusion])
            else:
                await self._salvage(conclusions[0], error)

    async def _salvage(self, conclusion: Conclusion, error: Exception) -> None:
        logger.error("What follows from %s can't be done", conclusion.attempt or "a chord", exc_info=error)
        remains = self._judge.salvage(conclusion, error)
        if conclusion.chord is not None and self._chords is not None:
            remains = self._chords.salvage(conclusion.chord, error)
        for each in remains:
            try:
                await self._act([each])
            except Exception:
                logger.exception("Nor can what is left of it be done")
            else:
                return
        self._settle(remains[-1:])

    async def _act(self, conclusions: Sequence[Conclusion]) -> None:
        linked = [c for c in conclusions if c.sequel is not None]
        refused: set[int] = set()
        if linked:
            refused = await self._lead_on(linked)
            conclusions = [c for c in conclusions if id(c) not in refused]
        refused |= await self._store(conclusions)
        following = [(c, each) for c in conclusions if c.follow_ups and id(c) not in refused for each in c.follow_ups]
        if following:
            refused |= self._refuse(await self._outgoing.publish(following))
        if linked:
            linked = [c for c in linked if not (id(c) in refused or c.lost)]
            await self._follow(linked)
        if self._files is not None and self._files.in_use:
            await self._files.end([c for c in conclusions if not (id(c) in refused or c.lost)])
        if refused:
            conclusions = [conclusion for conclusion in conclusions if id(conclusion) not in refused]
        if self._wills is not None:
            await self._wills.void(conclusions)
        if linked:
            conclusions = await self._close(conclusions, linked)
        self._settle(conclusions)

    def _settle(self, conclusions: Sequence[Conclusion]) -> None:
        """What is stored and published is told of, and its delivery settled."""
        flights, ended = self._flights, 0
        for conclusion in conclusions:
            attempt, settlement, slot = conclusion.attempt, conclusion.settlement, 0
            if attempt is not None:
                if attempt.lost:
                    self._drop(attempt)
                    continue
                self._journal.write(conclusion, attempt)
                unique = attempt.program.definition.options.unique
                if unique is not None and self._claims is not None and conclusion.state in _ENDED:
                    self._claims.end(attempt)
                if flights is not None:
                    slot = _land(attempt, settlement, flights)
                    ended += conclusion.state != "INTERRUPTED"
            if settlement is not None:
                self._settler.put(settlement, slot=slot)
                if isinstance(settlement, Park):
                    self._maintenance.due(settlement.until)
        if self._wear is not None:
            self._wear.count(ended)

    def _drop(self, attempt: Attempt) -> None:
        """Nothing follows from it: somebody else has the delivery."""
        self._journal.lost(attempt)
        self._dropped.append(attempt)
        if self._flights is not None:
            self._flights.leave(attempt.slot)
            attempt.slot = 0

    async def _confirm(self, conclusions: Sequence[Conclusion]) -> None:
        """Make sure that these are still ours, before anything is said of them; mark those that are lost.

        Once is not enough: while one server is away, the lease may end, and somebody else may have come to an end.
        """
        ours = [a for c in conclusions if (a := c.attempt) is not None and not (a.acknowledged or a.lost)]
        stale = self._leases.unconfirmed([attempt.delivery for attempt in ours])
        if stale:
            gone = {delivery.tag for delivery in await self._leases.confirm(stale)}
            for attempt in ours:
                attempt.lost = attempt.delivery.tag in gone
        if self._chords is not None:
            for conclusion in conclusions:
                if conclusion.chord is not None:
                    await self._chords.confirm(conclusion.chord)

    async def _store(self, conclusions: Sequence[Conclusion]) -> set[int]:
        """Store the records; return (by `id`) the conclusions whose records the backend refuses for good.

        Those tasks fail instead, with the backend's reason. Where it refuses that as well, the log has it.
        """
        recorded = [c for c in conclusions if c.record is not None]
        if not recorded or self._recorder is None:
            await self._confirm(conclusions)
            return set()

        async def current() -> list[StoredResult]:
            await self._confirm(conclusions)
            recorded[:] = [c for c in recorded if not c.lost]
            return [c.record for c in recorded if c.record is not None]

        errors = await self._recorder.store_current(current)
        found = ((recorded[position], error) for position, error in errors.items())
        return self._refuse((c, e) for c, e in found if c.attempt is not None and not isinstance(c.error, BackendError))

    # -- what follows in a canvas ------------------------------------------------------------------------------

    async def _lead_on(self, linked: Sequence[Conclusion]) -> set[int]:
        """Open chords, send callbacks and next steps: before the records, for nobody shall read of a success whose
        sequel may still be lost. Returns (by `id`) those that can't.
        """
        await self._confirm(linked)
        outgoing = self._outgoing
        refused = self._refuse(await outgoing.send([(c, sequel.first) for c, sequel in _sequels(linked)]))
        for conclusion, sequel in _sequels(linked):
            for later in sequel.more:
                if id(conclusion) not in refused:
                    refused |= self._refuse(await outgoing.send_while_made(conclusion, later))
        return refused

    async def _follow(self, linked: Sequence[Conclusion]) -> None:
        """After the records: those of steps that will not run, parts of chords, errbacks that are sent."""
        records = [record for _, sequel in _sequels(linked) for record in sequel.records]
        if records and self._recorder is not None:
            await self._recorder.store(records)
        parts = [part for _, sequel in _sequels(linked) for part in sequel.parts]
        if parts and self._chords is not None:
            ends = await self._chords.hand_in(parts)
            if ends:
                await self._act_apart(ends)
        for conclusion, reason in await self._outgoing.send([(c, sequel.errbacks) for c, sequel in _sequels(linked)]):
            logger.error("An errback of %s can't be sent: %s", conclusion.attempt or "a chord's body", reason)

    async def _close(self, conclusions: Sequence[Conclusion], linked: Sequence[Conclusion]) -> list[Conclusion]:
        """Close chords, call errbacks; return what is to be settled without waiting for these."""
        ends = [c.chord for c in linked if c.chord is not None]
        if ends and self._chords is not None:
            await self._chords.close(ends)
        waiting: set[int] = set()
        for conclusion, sequel in _sequels(linked):
            if sequel.errback_calls:
                waiting.add(id(conclusion))
                self._errbacks.start(sequel.errback_calls, partial(self._settle, [conclusion]))
        return [c for c in conclusions if id(c) not in waiting]

    # -- parts of it -------------------------------------------------------------------------------------------

    def _refuse(self, refusals: Iterable[Refusal]) -> set[int]:
        """Those tasks fail instead, with the reason: their turn comes with the next flush. Returns them by `id`."""
        refused: dict[int, Refusal] = {}
        for refusal in refusals:
            refused.setdefault(id(refusal[0]), refusal)
        for conclusion, reason in refused.values():
            self._fail(conclusion, reason)
        return set(refused)

    def _fail(self, conclusion: Conclusion, reason: Exception) -> None:
        if conclusion.attempt is not None:
            self.put((conclusion.attempt, Failed(reason, retryable=False)))
        elif conclusion.chord is not None and self._chords is not None:
            self.put(self._chords.refused(conclusion.chord, reason))
        elif conclusion.settlement is not None:  # a stranger, which would be gone with its acknowledgement
            delivery, text = conclusion.settlement.delivery, f"it could not be put off: {reason}"
            self._journal.buried(delivery, text)
            self.put(self._judge.stranded(delivery, text))


def _land(attempt: Attempt, settlement: Settlement | None, flights: FlightRecorder) -> int:
    """Tell the flight table what is left to do for a task; return its slot where that is to settle it."""
    slot = attempt.slot
    attempt.slot = 0
    if type(settlement) is Ack:  # anything else must happen, and can't be left to those who clean up
        flights.conclude(slot)
    elif settlement is None:
        flights.leave(slot)
        return 0
    return slot


def _sequels(linked: Sequence[Conclusion]) -> Iterator[tuple[Conclusion, Sequel]]:
    for conclusion in linked:
        if conclusion.sequel is not None:
            yield conclusion, conclusion.sequel
