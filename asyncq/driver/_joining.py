"""How the parts of a chord come together: the Protocols of a result backend that can join, and what crosses them.

A chord is opened by whoever sends its header, with the number of parts to expect. Each header task that ends hands in
its part; the backend counts a part once, however often it is handed in. Whoever hands in the one that completes the
chord gets a *claim*: he alone sends the body, within the claim's time, and then closes the chord. When he dies on the
way, the chord is claimed again, by the next one who hands in a part (a redelivered one), or by whoever looks for
chords that are overdue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

#: Seconds that a claim lasts at first: as Celery's, twice `result_chord_join_timeout` (3 by default), 5 at least.
CLAIM: Final = 6.0

#: Seconds that a claim lasts from its renewal on, just before the body is sent: Celery's own, for its retries of that.
CLAIM_WHILE_SENDING: Final = 21.0

#: Seconds that a backend remembers a chord as closed: late parts and a second opening change nothing meanwhile.
CLOSED: Final = 300.0


class ChordOpening(Struct, frozen=True, kw_only=True):
    """A chord on its way in."""

    #: The id of its header, which each part names.
    group_id: str
    #: Parts to expect.
    size: int
    #: The header's results, by `asyncq.protocol.encode_group`: where the backend `saves_headers`, and where a member is
    #: itself a group whose values shall form a list of their own. None where the parts alone will do.
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
    #: Seconds until the chord is forgotten, from this part on; None keeps it for ever.
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


class Chords(Protocol):
    """Brings the parts of chords together. An instance belongs to the event loop of the backend that gave it.

    All methods may be cancelled at any await, and raise BackendError; after a BackendConnectionError whether the call
    had its effect is unknown, and doing it again does no harm.
    """

    @property
    def saves_headers(self) -> bool:
        """Whether each opening must carry `saved`, and must be made *before* the first message of the header goes out,
        since Celery's workers find neither count nor members otherwise. Else an opening needs `saved` only where a
        member is itself a group, and is made before the last message, when the size is known.
        """
        ...

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        """Expect the parts of chords. Opening again what is open, or was closed moments ago, changes nothing."""
        ...

    async def grow(self, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        """Expect more parts than the opening said: a header task adds some while it runs.

        A chord grows once by a `name`, however often it is said: by a task that runs again, or that heard no answer.
        """
        ...

    async def join(self, parts: Sequence[ChordPart], *, lease: float = CLAIM) -> list[ChordClaim]:
        """Hand in parts; return the claims on those chords that are complete now, and claimed by nobody else.

        Each part is counted once, by task id and index; what is handed in again changes nothing, and gets the claim
        all the same when the chord is complete and not yet closed. Parts that come before the opening count as well.
        A part that the server refuses doesn't take those of other chords with it. `lease` is the claims' time in
        seconds; one whose reply got lost becomes overdue after it.
        """
        ...

    def members(self, claim: ChordClaim) -> AsyncIterator[Sequence[bytes]]:
        """What the body is made of, in batches, for `asyncq.protocol.decode_part`.

        The parts' `member`s by index, those without one last, equal indexes by the text itself; or, with
        `claim.saved`, the records of the tasks that it names (`SavedGroup.task_ids`), in that order, and the part of a
        task that keeps no record. Raises BackendError when there is neither, any more. Whoever was interrupted reads
        from the beginning.
        """
        ...

    async def renew(self, claim: ChordClaim, *, lease: float = CLAIM_WHILE_SENDING) -> bool:
        """Get `lease` seconds from now on to send the body, also when the claim has ended and nobody else has one.

        False: somebody else has the claim now, or has closed the chord, and this one must do nothing.
        """
        ...

    async def close(self, claim: ChordClaim) -> None:
        """The body was sent, or its failure stored: forget the chord. Late parts change nothing any more.

        Changes nothing when somebody else has the claim by now; whoever ended the chord under a claim that has run out
        since, and that nobody took over, closes it all the same. May be called twice.
        """
        ...

    async def overdue(self, limit: int, *, lease: float = CLAIM) -> list[ChordClaim]:
        """Claim some of the chords that are complete, whose claim has ended, and that nobody has closed: at most
        `limit`. Found are those of which at least one part was handed in here.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """A result backend that brings the parts of chords together."""

    @property
    def chords(self) -> Chords: ...
