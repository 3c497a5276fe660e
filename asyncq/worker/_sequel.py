"""What follows from one outcome in its canvas, as data: `_continuation` decides it, `_concluder` acts on it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from asyncq.canvas import Document
from asyncq.driver import ChordOpening, ChordPart, Publication, StoredResult
from asyncq.worker._errbacks import ErrbackCall

# `Any` below: result tuples, which are nested lists of ids and None.


class Sequel(Struct, kw_only=True):
    """What follows from one outcome, in the order in which it must happen."""

    #: Chords that begin with it.
    openings: list[ChordOpening] = field(default_factory=list[ChordOpening])
    #: Sent before its own record is stored: callbacks, the next step, what takes its place.
    messages: list[Publication] = field(default_factory=list[Publication])
    #: Result tuples of those, for its own record.
    children: list[Any] = field(default_factory=list[Any])
    #: Of others that will not run; stored after its own record …
    records: list[StoredResult] = field(default_factory=list[StoredResult])
    #: … then its parts of chords, and theirs, are handed in …
    parts: list[ChordPart] = field(default_factory=list[ChordPart])
    #: … then its errbacks are sent, or called.
    errback_openings: list[ChordOpening] = field(default_factory=list[ChordOpening])
    errback_messages: list[Publication] = field(default_factory=list[Publication])
    errback_calls: list[ErrbackCall] = field(default_factory=list[ErrbackCall])


class Completion(Struct, frozen=True, kw_only=True):
    """What a header task knows of the body: kept with the chord, for whoever ends it."""

    body: Document
    #: Of the body's message.
    root_id: str | None = None
    parent_id: str | None = None
