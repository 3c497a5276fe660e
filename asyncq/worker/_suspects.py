"""Deliveries that come again: one of them may be why.

A delivery comes again when it was given back, when its lease was lost, or when its worker died. Each is looked up
before it runs: a convict is concluded unrun, a suspect runs in quarantine; what nothing speaks against runs as usual,
and that it does is put down, so that a death which nobody sees (the whole machine's) counts as well.

Where there is no store to look in, the server's count of deliveries is all there is (quorum queues have one).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from asyncq._suspicion import Conviction, Suspicion
from asyncq.driver import GiveBack
from asyncq.errors import TimeLimitExceeded, WorkerLostError
from asyncq.worker._attempt import Attempt
from asyncq.worker._case_files import CaseFiles
from asyncq.worker._concluder import Concluder
from asyncq.worker._flow import Flow
from asyncq.worker._outcome import Convicted, Crashed, Ignored
from asyncq.worker._past import Past
from asyncq.worker._quarantine import can_be_isolated
from asyncq.worker._settler import Settler

logger = logging.getLogger(__name__)


class Quarantine:
    """Says who runs there, and tells of tasks that can't."""

    def __init__(self) -> None:
        #: Names of tasks that can't be quarantined, and were told of.
        self._told: set[str] = set()

    def confine(self, attempt: Attempt) -> None:
        """Let a suspect run there, if it can."""
        definition = attempt.program.definition
        attempt.quarantined = can_be_isolated(definition)
        if not attempt.quarantined and definition.name not in self._told:
            self._told.add(definition.name)
            logger.warning(
                "Task %s may have killed its worker, and can't be quarantined: its function isn't found under the name "
                "%s in its module. It runs among others",
                definition.name,
                definition.fn.__qualname__,
                extra=attempt.log_fields(),
            )


class DeliveryCounts:
    """Suspects whoever was delivered too often.

    A count tells nothing of why: deliveries that were handed back unbegun count, and so does each neighbour of one that
    killed its worker. So it convicts nobody. What has come `max_deliveries` times runs in quarantine; an innocent ends
    there, and only what dies there has had its last delivery.
    """

    def __init__(self, *, max_deliveries: int) -> None:
        self._max_deliveries = max_deliveries
        self._quarantine = Quarantine()

    def look_at(self, attempt: Attempt) -> None:
        count = attempt.delivery.count
        if count is not None and count >= max(2, self._max_deliveries):
            attempt.suspicion = Suspicion(unexplained=count - 1)
            self._quarantine.confine(attempt)


class Suspects:
    """Decides about deliveries that come again; those that have come meanwhile are looked up together."""

    def __init__(
        self,
        files: CaseFiles,
        past: Past,
        *,
        concluder: Concluder,
        settler: Settler,
        flow: Flow,
        max_deliveries: int,
        by_connection: bool,
    ) -> None:
        """`by_connection` says that deliveries come again when a connection ends: their worker may be well."""
        self._files = files
        self._past = past
        self._concluder = concluder
        self._settler = settler
        self._flow = flow
        self._max_deliveries = max_deliveries
        self._by_connection = by_connection
        self._held: dict[Attempt, Callable[[Attempt], None]] = {}
        self._wanted = asyncio.Event()
        self._quarantine = Quarantine()

    def put(self, attempt: Attempt, let_in: Callable[[Attempt], None]) -> None:
        """Let it in when nothing speaks against it."""
        self._held[attempt] = let_in
        self._flow.waiting += 1
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch = list(self._held)
            known = await self._files.read(batch)
            # Where that store is away, the results most probably are as well: one time-out will do.
            done = set[Attempt]() if known is None else await self._past.done(batch)
            for position, attempt in enumerate(batch):
                let_in = self._held.pop(attempt, None)
                if let_in is not None:  # not given back meanwhile
                    self._flow.waiting -= 1
                    if attempt in done:
                        logger.info("%s had succeeded: it is not run again", attempt, extra=attempt.log_fields())
                        attempt.suspicion = Suspicion()  # so that what speaks against it is forgotten
                        self._concluder.put((attempt, Ignored()))
                    elif known is None:
                        let_in(attempt)
                    else:
                        self._decide(attempt, let_in, *known[position])

    def give_back(self) -> None:
        """Return what is held to its queue."""
        for attempt in self._held:
            self._settler.put(GiveBack(attempt.delivery))
        self._flow.waiting -= len(self._held)
        self._flow.stats.handed_back += len(self._held)
        self._held.clear()

    def _decide(
        self,
        attempt: Attempt,
        let_in: Callable[[Attempt], None],
        conviction: Conviction | None,
        suspicion: Suspicion | None,
    ) -> None:
        attempt.suspicion = suspicion = suspicion or Suspicion()
        suspicion.presume(dead=not self._by_connection)
        if conviction is not None:
            logger.warning("%s is not run again: %s", attempt, conviction.reason, extra=attempt.log_fields())
            self._concluder.put((attempt, Convicted(TimeLimitExceeded(conviction.limit), conviction.reason)))
        elif suspicion.convicts(self._max_deliveries):
            self._concluder.put((attempt, Crashed(WorkerLostError(f"its process has died: {suspicion.deaths[-1]}"))))
        else:
            if suspicion.calls_for_quarantine:
                self._quarantine.confine(attempt)
            let_in(attempt)
