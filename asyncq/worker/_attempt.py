"""One delivery on its way through the worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from asyncq._context import Context
from asyncq._resources import Dependency, Lifespan, Resources, RunScope
from asyncq._suspicion import Suspicion
from asyncq.driver import Delivery
from asyncq.errors import ConfigurationError
from asyncq.protocol import Limits, TaskMessage, custom_headers
from asyncq.worker._outcome import Outcome
from asyncq.worker._program import Program
from asyncq.worker._sequel import Sequel
from asyncq.worker._time_limits import lower

T = TypeVar("T")

#: What the names of asyncq's own notes on messages begin with; tasks have no use for them.
_NOTES = "asyncq-"


class StateStore(Protocol):
    """Where an attempt's interim states go."""

    async def store_state(self, attempt: Attempt, state: str, meta: Any) -> None: ...


class Sender(Protocol):
    """Who sends on behalf of running tasks."""

    async def add_to_chord(self, message: TaskMessage, document: dict[str, Any], number: int) -> list[Any]: ...


class Surroundings(Struct, frozen=True, eq=False):
    """What all attempts of a worker share."""

    node: str
    states: StateStore
    limits: Limits
    resources: Resources
    #: None in quarantine, where nothing is sent on a worker's behalf.
    sender: Sender | None = None


class Attempt:
    """A decoded delivery, the task it calls, and what happened to it so far."""

    __slots__ = (
        "_surroundings",
        "acknowledged",
        "added",
        "children",
        "delivery",
        "ended",
        "has_will",
        "ignore_result",
        "interrupted",
        "lost",
        "message",
        "program",
        "quarantined",
        "runtime",
        "scope",
        "sequel",
        "slot",
        "soft_time_limit",
        "started_at",
        "suspicion",
        "time_limit",
        "timer",
        "verdict",
    )

    def __init__(
        self,
        delivery: Delivery,
        message: TaskMessage,
        program: Program,
        surroundings: Surroundings,
    ) -> None:
        self.delivery = delivery
        self.message = message
        self.program = program
        self._surroundings = surroundings
        #: Result tuples of what it has sent.
        self.children: list[Any] = []
        #: How many members it has added to its chord, or is about to.
        self.added = 0
        #: The sender's word, else the task's.
        self.ignore_result = program.ignore_result if message.ignore_result is None else message.ignore_result
        #: Seconds; None means no limit.
        self.soft_time_limit = lower(program.soft_time_limit, message.soft_time_limit)
        self.time_limit = lower(program.time_limit, message.time_limit)
        #: How it ends, whatever the task still does: its hard limit has passed, or it was revoked.
        self.verdict: Outcome | None = None
        #: Goes off at the hard limit, and when a cancellation was of no use.
        self.timer: asyncio.TimerHandle | None = None
        #: What the run has opened; None as long as it has opened nothing.
        self.scope: RunScope | None = None
        #: Monotonic seconds; None before the task's own code runs.
        self.started_at: float | None = None
        #: Seconds in the task's own code, once it has ended.
        self.runtime = 0.0
        #: Its place in the flight table; 0 where it has none.
        self.slot = 0
        #: Early ack: the message is gone from the broker.
        self.acknowledged = False
        #: Its message is kept, for whoever cleans up after this worker.
        self.has_will = False
        #: It has an outcome.
        self.ended = False
        #: The worker has cancelled it, because it stops.
        self.interrupted = False
        #: The lease went to somebody else: this outcome must not be stored.
        self.lost = False
        #: What speaks against it; None where nobody has asked, since it came for the first time.
        self.suspicion: Suspicion | None = None
        #: What one of asyncq's own tasks wants sent when it has succeeded.
        self.sequel: Sequel | None = None
        #: It may kill its process, and gets one of its own.
        self.quarantined = False

    def __repr__(self) -> str:
        return f"<Attempt {self} of {self.delivery.queue}>"

    def __str__(self) -> str:
        return f"{self.message.task}[{self.message.id}]"

    def make_context(self) -> Context:
        """What the task may know of it. Not kept here: a cycle each run cost 2 to 6 µs of collecting garbage."""
        return Context(
            self.message,
            attempt=self,
            queue=self.delivery.queue,
            node=self._surroundings.node,
            redelivered=self.delivery.redelivered or self.message.redelivered,
            children=self.children,
        )

    async def update_state(self, state: str, meta: Any) -> None:
        if not (self.ignore_result or self.ended):  # given up, it may go on: a state of its would bury the final one
            await self._surroundings.states.store_state(self, state, meta)

    async def store_started(self) -> None:
        await self.update_state("STARTED", {"pid": os.getpid(), "hostname": self._surroundings.node})

    def headers(self) -> Mapping[str, Any]:
        """Those that are the sender's own."""
        return {name: value for name, value in self._headers().items() if not name.startswith(_NOTES)}

    def notes(self) -> Mapping[str, Any]:
        """The headers that are asyncq's own."""
        return {name: value for name, value in self._headers().items() if name.startswith(_NOTES)}

    def resource(self, lifespan: Lifespan[T]) -> T:
        if lifespan not in self._surroundings.resources:
            raise LookupError(f"{lifespan!r} is not open in this worker: it belongs to another app")
        return self._surroundings.resources[lifespan]

    async def use(self, dependency: Dependency[T], context: Context) -> T:
        if self.scope is None:
            self.scope = RunScope()
        return await self.scope.use(dependency, context)

    async def add_to_chord(self, document: dict[str, Any]) -> None:
        if self._surroundings.sender is None:
            raise ConfigurationError(f"{self} runs in quarantine, where nothing can be added to its chord")
        # So that a repeat of the run adds the same, which counts once. Taken before the wait: others add meanwhile.
        number = self.added
        self.added += 1
        self.children.append(await self._surroundings.sender.add_to_chord(self.message, document, number))

    def _headers(self) -> Mapping[str, Any]:
        return custom_headers(self.delivery.content, limits=self._surroundings.limits)

    def log_fields(self) -> dict[str, Any]:
        """Fields of every log line about it. Never arguments, never results."""
        return {
            "task": self.message.task,
            "task_id": self.message.id,
            "queue": self.delivery.queue,
            "delivery_tag": self.delivery.tag,
            "retries": self.message.retries,
        }
