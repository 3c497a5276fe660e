"""Messages as an operator reads them, who must not fail at one that no worker could read."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from asyncq.driver import Place, Stored
from asyncq.errors import DecodeError
from asyncq.protocol import DeadLetter, Limits, TaskMessage, WireMessage, decode_envelope, decode_task, read_dead_letter

#: Before the key of a message, where it stands for the id that the message lacks.
KEY_PREFIX = "key:"


class Entry(Struct, frozen=True, eq=False, kw_only=True):
    """One message where it stands, as far as it can be read."""

    stored: Stored
    #: What a worker would get, or has got: of a dead letter, the message that died.
    content: bytes | WireMessage
    #: None where it can't be decoded; `fault` says why.
    call: TaskMessage | None = None
    fault: str | None = None
    #: What the notice of a dead letter says: why, when (UNIX seconds) and after how many runs.
    reason: str | None = None
    died_at: float | None = None
    attempts: int | None = None

    @property
    def wire(self) -> WireMessage | None:
        """The message with its headers; None where it is no message at all."""
        if isinstance(self.content, WireMessage):
            return self.content
        try:
            return decode_envelope(self.content)
        except DecodeError:
            return None

    @property
    def body(self) -> bytes:
        """The call as it is encoded; of what is no message, all there is."""
        content = self.wire or self.content
        return content.body if isinstance(content, WireMessage) else content

    @property
    def task(self) -> str | None:
        """The task's name, also of a message whose body can't be decoded."""
        return self.call.task if self.call is not None else self._header("task")

    @property
    def task_id(self) -> str | None:
        """The task's id, also of a message whose body can't be decoded."""
        return self.call.id if self.call is not None else self._header("id")

    @property
    def names(self) -> tuple[str, ...]:
        """What an operator may call it by: the task's id, which a duplicate has too, and its key, which is its own."""
        key = f"{KEY_PREFIX}{self.stored.key}"
        return (key,) if self.task_id is None else (self.task_id, key)

    def _header(self, name: str) -> str | None:
        wire = self.wire
        value = None if wire is None else wire.headers.get(name)
        return value if isinstance(value, str) and value else None


class MessageReader(Struct, frozen=True):
    """Reads messages as the workers of an app would."""

    limits: Limits
    #: Serialisers that may be decoded.
    accept: Collection[str]

    def read(self, stored: Stored, place: Place) -> Entry:
        letter = DeadLetter(content=stored.content) if place != "dead" else read_dead_letter(stored.content)
        call, fault = None, None
        try:
            call = decode_task(letter.content, limits=self.limits, accept=self.accept)
        except DecodeError as error:
            fault = str(error)
        return Entry(
            stored=stored,
            content=letter.content,
            call=call,
            fault=fault,
            reason=letter.reason,
            died_at=letter.time,
            attempts=letter.attempts,
        )


class Selection(Struct, frozen=True):
    """Which entries are meant: those of some names, or of one task, or all."""

    #: Task ids, or `key:` and a key. Several messages may have one id.
    names: frozenset[str] = frozenset()
    task: str | None = None

    def __contains__(self, entry: Entry) -> bool:
        if self.names:
            return not self.names.isdisjoint(entry.names)
        return self.task is None or entry.task == self.task
