"""What a worker does by facts that all workers and clients share."""

from __future__ import annotations

import math

from msgspec import Struct

from asyncq._presence import INTERVAL as VISIBILITY_INTERVAL
from asyncq._revoking import Revocations
from asyncq.driver import Coordinating, Coordination
from asyncq.worker._backoff import Backoff
from asyncq.worker._case_files import CaseFiles
from asyncq.worker._claims import Claims
from asyncq.worker._dispatches import Dispatches
from asyncq.worker._flow import Flow
from asyncq.worker._last_wills import LastWills
from asyncq.worker._revoker import Revoker
from asyncq.worker._setup import WorkerSetup


class Coordinated(Struct, frozen=True, eq=False):
    """The parts that need such facts; None where nothing can keep them."""

    claims: Claims | None = None
    files: CaseFiles | None = None
    revoker: Revoker | None = None
    dispatches: Dispatches | None = None
    wills: LastWills | None = None


def coordinate(setup: WorkerSetup, coordination: Coordination | None, flow: Flow, *, node: str) -> Coordinated:
    """All that this worker can do by them."""
    if coordination is None:
        return Coordinated()
    clock, dice = setup.environment.clock, setup.environment.random
    files = wills = None
    if setup.broker.capabilities.shared:  # messages that die with their process leave nobody to suspect, nor to tell
        files = CaseFiles(coordination, Backoff(dice), clock, node=node)
        wills = LastWills(coordination)
    return Coordinated(
        claims=Claims(coordination, flow, dice),
        files=files,
        revoker=Revoker(Revocations(coordination), flow, dice, interval=_revocation_interval(setup)),
        dispatches=Dispatches(coordination, clock, dice),
        wills=wills,
    )


def _revocation_interval(setup: WorkerSetup) -> float | None:
    """Seconds between two looks for revocations of what runs; None where looks cost nothing."""
    backend = setup.backend
    if not isinstance(backend, Coordinating) or not backend.capabilities.billed:
        return None
    return VISIBILITY_INTERVAL if setup.broker.capabilities.fanout else math.inf  # then `Visibility` looks
