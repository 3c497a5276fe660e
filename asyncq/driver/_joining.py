"""How the parts of a chord come together: the Protocol of a result backend that can join, and what crosses it.

A chord is opened by whoever sends its header, with the number of parts to expect. Each header task that ends hands in
its part; the backend counts a part once, however often it is handed in. Whoever hands in the one that completes the
chord gets a *claim*: he alone sends the body, within the claim's time, and then closes the chord. When he dies on the
way, the chord is claimed again, by the next one who hands in a part (a redelivered one), or by whoever looks for
chords that are overdue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct


class ChordOpening(Struct, frozen=True, kw_only=True):
    """A chord on its way in."""

    #: The id of its header, which each part names.
    group_id: str
    #: Parts to expect.
    size: int
    #: The header's result tuple (`results.md`, 6) as JSON `{"result": …}`: for backends that join by reading the
    #: members' records, and where a member is itself a group. None where the parts alone will do.
    saved: bytes | None = None
    #: Seconds until it is forgotten; None keeps it for ever.
    expires: float | None = None


class ChordPart(Struct, frozen=True, kw_only=True):
    """One header task's end. Its record has been stored before."""

    group_id: str
    task_id: str
    #: Place in the header; None sorts last.
    index: int | None
    #: `asyncq.protocol.encode_part`: what the join reads, byte for byte.
    member: bytes
    #: What the header task's message said of the body: kept, so that the chord can be ended by others. One JSON
    #: document of asyncq's own, the same for each part of a chord.
    body: bytes
    #: Seconds until the chord is forgotten; None keeps it for ever.
    expires: float | None = None


class ChordClaim(Struct, frozen=True, kw_only=True):
    """The right to send the body of a chord that is complete. Ends by itself after a few seconds."""

    group_id: str
    #: Names this claim and no other.
    token: str
    #: The body of one of the parts.
    body: bytes
    #: What was saved with the opening: then the members' records count, in its order, and not the parts.
    saved: bytes | None = None


@runtime_checkable
class Joining(Protocol):
    """A result backend that brings the parts of chords together. All methods raise BackendError."""

    async def open_chords(self, openings: Sequence[ChordOpening]) -> None:
        """Expect the parts of chords. Opening again what is open, or was closed moments ago, changes nothing."""
        ...

    async def grow_chord(self, group_id: str, by: int) -> None:
        """Expect more parts than the opening said: a header task adds some while it runs."""
        ...

    async def join(self, parts: Sequence[ChordPart]) -> list[ChordClaim]:
        """Hand in parts; return the claims on those chords that are complete now, and claimed by nobody else.

        Each part is counted once, by task id and index; what is handed in again changes nothing, and gets the claim
        all the same when the chord is complete and not yet closed.
        """
        ...

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        """The parts' `member`s in batches, by index, those without one last; equal indexes by the text itself."""
        ...

    async def renew_claim(self, claim: ChordClaim) -> bool:
        """Get more time to send the body; False: somebody else has the claim now, and this one must do nothing."""
        ...

    async def close_chord(self, claim: ChordClaim) -> None:
        """The body was sent, or its failure stored: forget the chord. Late parts change nothing any more."""
        ...

    async def overdue_chords(self, limit: int) -> list[ChordClaim]:
        """Claim chords that have been complete for a while, and whose body nobody has sent."""
        ...
