"""What follows from an outcome, as data: `_judge` decides it, `_concluder` acts on it."""

from __future__ import annotations

from msgspec import Struct

from asyncq.driver import ChordClaim, Publication, Settlement, StoredResult
from asyncq.worker._attempt import Attempt
from asyncq.worker._sequel import Completion, Sequel


class ChordEnd(Struct, kw_only=True, eq=False):
    """A chord that is complete, and that this worker may end."""

    claim: ChordClaim
    #: What was kept of its body; None where that can't be read.
    completion: Completion | None = None
    #: Monotonic seconds until which nobody else can have the claim.
    safe_until: float = 0.0
    #: Somebody else has the claim by now.
    lost: bool = False


class Conclusion(Struct, kw_only=True):
    """The effects of one outcome, in the order in which they must happen."""

    #: None for a delivery that never became an attempt, and for the end of a chord.
    attempt: Attempt | None
    #: What the log says: SUCCESS, FAILURE, RETRY, SNOOZED, REVOKED, REPLACED, REJECTED, IGNORED, INTERRUPTED, CRASHED,
    #: UNKNOWN or CHORD.
    state: str
    #: What follows in its canvas, some of it before its own record, some after.
    sequel: Sequel | None = None
    #: First stored, where results are wanted …
    record: StoredResult | None = None
    #: … then published …
    follow_ups: tuple[Publication, ...] = ()
    #: … then settled, unless it was acknowledged before the run …
    settlement: Settlement | None = None
    #: … or closed.
    chord: ChordEnd | None = None
    #: For the log.
    error: BaseException | None = None

    @property
    def lost(self) -> bool:
        """The delivery, or the claim on the chord, has gone to somebody else."""
        if self.attempt is None:
            return self.chord is not None and self.chord.lost
        return self.attempt.lost
