"""Deliveries that come again: one of them may be why.

A delivery comes again when it was given back, when its lease was lost, or when its worker died. Each is looked up
before it runs: a convict is concluded unrun, a suspect runs in quarantine; what nothing speaks against runs as usual,
and that it does is put down, so that a death which nobody sees (the whole machine's) counts as well.
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
from asyncq.worker._outcome import Convicted, Crashed
from asyncq.worker._quarantine import can_be_isolated
from asyncq.worker._settler import Settler

logger = logging.getLogger(__name__)


class Suspects:
    """Decides about deliveries that come again; those that have come meanwhile are looked up together."""

    def __init__(
        self, files: CaseFiles, *, concluder: Concluder, settler: Settler, flow: Flow, max_deliveries: int
    ) -> None:
        self._files = files
        self._concluder = concluder
        self._settler = settler
        self._flow = flow
        self._max_deliveries = max_deliveries
        self._held: dict[Attempt, Callable[[Attempt], None]] = {}
        self._wanted = asyncio.Event()
        #: Names of tasks that can't be quarantined, and were told of.
        self._told: set[str] = set()

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
            for position, attempt in enumerate(batch):
                let_in = self._held.pop(attempt, None)
                if let_in is not None:  # not given back meanwhile
                    self._flow.waiting -= 1
                    if known is None:
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
        suspicion.presume()
        if conviction is not None:
            logger.warning("%s is not run again: %s", attempt, conviction.reason, extra=attempt.log_fields())
            self._concluder.put((attempt, Convicted(TimeLimitExceeded(conviction.limit), conviction.reason)))
        elif suspicion.convicts(self._max_deliveries):
            self._concluder.put((attempt, Crashed(WorkerLostError(f"its process has died: {suspicion.deaths[-1]}"))))
        else:
            attempt.quarantined = suspicion.calls_for_quarantine and self._can_be_quarantined(attempt)
            let_in(attempt)

    def _can_be_quarantined(self, attempt: Attempt) -> bool:
        definition = attempt.program.definition
        possible = can_be_isolated(definition)
        if not possible and definition.name not in self._told:
            self._told.add(definition.name)
            logger.warning(
                "Task %s may have killed its worker, and can't be quarantined: its function isn't found under the name "
                "%s in its module. It runs among others",
                definition.name,
                definition.fn.__qualname__,
                extra=attempt.log_fields(),
            )
        return possible
