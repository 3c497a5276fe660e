"""What took effect, in order: the ledger of a simulated run and its trace, with the rules that every effect obeys.

It lies in memory and is written where the effect happens: on the servers, and in the tasks' own code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from asyncq.driver import Ack, Clock, Delivery, Settlement
from asyncq.errors import DecodeError
from asyncq.protocol import READY_STATES, decode_envelope

What: TypeAlias = Literal["send", "fault", "take", "start", "end", "store", "publish", "settle"]


class Effect(NamedTuple):
    """Something that has happened."""

    #: Monotonic.
    at: float
    who: str
    what: What
    #: Id of the task; of a fault what it hit.
    key: str
    #: State of the record, number of the retry, kind of the settlement, outcome of the run.
    detail: str = ""
    #: Of the delivery.
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who:12} {self.what:8} {self.key:8} {self.detail:12} {self.tag[-6:]}".rstrip()


class Handling(Struct, eq=False):
    """What became of one delivery."""

    task_id: str
    #: How many effects its task had seen by then.
    taken: int
    started: int | None = None
    #: Kind of the settlement that took effect.
    settled: str | None = None
    #: What the worker asked for and what it got an answer to.
    asked: list[tuple[Literal["asked", "answered"], Settlement]] = []


class Violation(AssertionError):
    """An invariant does not hold."""


class History:
    """Notes effects. What breaks a rule is kept in `violations`: raised here, the runtime would take it for a fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.effects: list[Effect] = []
        self.by_task: defaultdict[str, list[Effect]] = defaultdict(list)
        #: By tag.
        self.handled: dict[str, Handling] = {}
        #: Tasks that store nothing, and tasks that are acknowledged before they start.
        self.silent: set[str] = set()
        self.early: set[str] = set()
        self.violations: list[str] = []
        #: Nothing counts any more.
        self.closed = False

    # -- what happens

    def note(self, who: str, what: What, key: str, detail: str = "", tag: str = "") -> None:
        if self.closed:
            return
        effect = Effect(self._clock.monotonic(), who, what, key, detail, tag)
        self.effects.append(effect)
        self.by_task[key].append(effect)

    def take(self, who: str, deliveries: Sequence[Delivery]) -> None:
        """A consumer was given these, whether or not it hears of it."""
        for delivery in deliveries:
            task_id = _task_of(delivery)
            self._hold(delivery.tag not in self.handled, f"the tag {delivery.tag} came twice")
            self.handled[delivery.tag] = Handling(task_id, len(self.by_task[task_id]), asked=[])
            self.note(who, "take", task_id, tag=delivery.tag)

    def start(self, who: str, task_id: str, tag: str, retries: int) -> None:
        """A task's first line runs."""
        if self.closed:
            return
        handling = self.handled[tag]
        self._hold(handling.started is None, f"{task_id} was started twice by one delivery")
        if task_id in self.early:  # I3
            self._hold(handling.settled == "Ack", f"{task_id} was started before it was acknowledged")
        handling.started = len(self.by_task[task_id])
        self.note(who, "start", task_id, str(retries), tag)

    def settle(self, who: str, settlement: Settlement) -> None:
        """A settlement took effect."""
        if self.closed:
            return
        tag, kind = settlement.delivery.tag, type(settlement).__name__
        handling = self.handled[tag]
        self._hold(handling.settled is None, f"{handling.task_id} was settled twice")  # I2
        handling.settled = kind
        if isinstance(settlement, Ack):
            self._check_safe(handling)
        elif kind == "GiveBack":
            self._hold(handling.started is None, f"{handling.task_id} had started, and was given back as if it had not")
        self.note(who, "settle", handling.task_id, kind, tag)

    def ask(self, what: Literal["asked", "answered"], settlements: Sequence[Settlement]) -> None:
        """A worker asks for settlements, or hears that they are done: never for two kinds, and not again (I2)."""
        for settlement in settlements:
            handling = self.handled[settlement.delivery.tag]
            kinds = {type(before) for _, before in handling.asked} | {type(settlement)}
            self._hold(len(kinds) == 1, f"{handling.task_id} was settled in two ways")
            answered = any(said == "answered" for said, _ in handling.asked)
            self._hold(not answered, f"{handling.task_id} was settled again, though there was an answer")
            handling.asked.append((what, settlement))

    # -- what it means

    def starts(self, task_id: str) -> int:
        return sum(effect.what == "start" for effect in self.by_task[task_id])

    def ends(self, task_id: str, outcome: str) -> int:
        return sum(effect.what == "end" and effect.detail == outcome for effect in self.by_task[task_id])

    def trace(self) -> str:
        return "\n".join(map(str, self.effects))

    def _check_safe(self, handling: Handling) -> None:
        """No acknowledgement before the record and what follows from it are safe (I3)."""
        task_id, own = handling.task_id, self.by_task[handling.task_id]
        if task_id in self.early:
            return
        since = own[handling.taken if handling.started is None else handling.started :]
        if task_id in self.silent:
            safe = any(effect.what in {"end", "publish"} for effect in since)
        else:
            stored = [effect.detail for effect in since if effect.what == "store"]
            published = any(effect.what == "publish" for effect in since)
            # A repeat of what has succeeded stores nothing any more.
            succeeded = any(effect.what == "store" and effect.detail == "SUCCESS" for effect in own)
            safe = succeeded or published or bool(stored and stored[-1] in READY_STATES)
        self._hold(safe, f"{task_id} was acknowledged before its outcome was safe")

    def _hold(self, condition: bool, text: str) -> None:
        if not (condition or self.closed):
            self.violations.append(text)


def _task_of(delivery: Delivery) -> str:
    assert isinstance(delivery.content, bytes)
    try:
        return str(decode_envelope(delivery.content).headers["id"])
    except (DecodeError, KeyError):
        return "?"
