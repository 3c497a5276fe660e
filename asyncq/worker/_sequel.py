"""What follows from one outcome in its canvas, as data: `_continuation` decides it, `_concluder` acts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from msgspec import Struct, field

from asyncq.canvas import Document
from asyncq.driver import ChordOpening, ChordPart, Publication, StoredResult
from asyncq.worker._errbacks import ErrbackCall

# `Any` below: result tuples, which are nested lists of ids and None.


class Batch(Struct):
    """Some of what is to be sent, behind the openings of the chords that it may complete."""

    openings: list[ChordOpening] = field(default_factory=list[ChordOpening])
    messages: list[Publication] = field(default_factory=list[Publication])


class Later:
    """Batches behind a first one, made while they are sent. Who reads them again gets them all again."""

    def __init__(self, begun: Iterator[Batch], make: Callable[[], Iterator[Batch]]) -> None:
        """`begun` has given the first one; `make` begins anew with it."""
        self._begun: Iterator[Batch] | None = begun
        self._make = make

    def __iter__(self) -> Iterator[Batch]:
        """Making one raises as `Continuation.after_success` does."""
        begun, self._begun = self._begun, None
        return islice(self._make(), 1, None) if begun is None else begun


class Sequel(Struct, kw_only=True):
    """What follows from one outcome, in the order in which it must happen."""

    #: Chords that begin with it, and what is sent before its own record is stored: callbacks, the next step, what takes
    #: its place …
    first: Batch = field(default_factory=Batch)
    #: … and what goes out after that: the rest of a header of thousands.
    more: list[Later] = field(default_factory=list[Later])
    #: Result tuples of those, for its own record.
    children: list[Any] = field(default_factory=list[Any])
    #: Of others that will not run; stored after its own record …
    records: list[StoredResult] = field(default_factory=list[StoredResult])
    #: … then its parts of chords, and theirs, are handed in …
    parts: list[ChordPart] = field(default_factory=list[ChordPart])
    #: … then its errbacks are sent, or called.
    errbacks: Batch = field(default_factory=Batch)
    errback_calls: list[ErrbackCall] = field(default_factory=list[ErrbackCall])


class Completion(Struct, frozen=True, kw_only=True):
    """What a header task knows of the body: kept with the chord, for whoever ends it."""

    body: Document
    #: Of the body's message.
    root_id: str | None = None
    parent_id: str | None = None
    #: Why the body can't run, whatever the header's results: not all of it could be kept.
    fault: str | None = None
