"""One delivery on its way through the worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Protocol

from asyncq._context import Context
from asyncq.driver import Delivery
from asyncq.protocol import Limits, TaskMessage, custom_headers
from asyncq.worker._outcome import Outcome
from asyncq.worker._program import Program
from asyncq.worker._time_limits import lower


class StateStore(Protocol):
    """Where an attempt's interim states go."""

    async def store_state(self, attempt: Attempt, state: str, meta: Any) -> None: ...


class Attempt:
    """A decoded delivery, the task it calls, and what happened to it so far."""

    __slots__ = (
        "acknowledged",
        "context",
        "delivery",
        "ignore_result",
        "limits",
        "lost",
        "message",
        "program",
        "runtime",
        "soft_time_limit",
        "started_at",
        "states",
        "time_limit",
        "timer",
        "verdict",
    )

    def __init__(
        self,
        delivery: Delivery,
        message: TaskMessage,
        program: Program,
        *,
        node: str,
        states: StateStore,
        limits: Limits,
    ) -> None:
        self.delivery = delivery
        self.message = message
        self.program = program
        self.limits = limits
        self.states = states
        self.context = Context(
            message,
            attempt=self,
            queue=delivery.queue,
            node=node,
            redelivered=delivery.redelivered or message.redelivered,
        )
        #: The sender's word, else the task's.
        self.ignore_result = program.ignore_result if message.ignore_result is None else message.ignore_result
        #: Seconds; None means no limit.
        self.soft_time_limit = lower(program.soft_time_limit, message.soft_time_limit)
        self.time_limit = lower(program.time_limit, message.time_limit)
        #: How it ends, whatever the task still does: its hard limit has passed, or it was revoked.
        self.verdict: Outcome | None = None
        #: Goes off at the hard limit, and when a cancellation was of no use.
        self.timer: asyncio.TimerHandle | None = None
        #: Monotonic seconds; None before the task's own code runs.
        self.started_at: float | None = None
        #: Seconds in the task's own code, once it has ended.
        self.runtime = 0.0
        #: Early ack: the message is gone from the broker.
        self.acknowledged = False
        #: The lease went to somebody else: this outcome must not be stored.
        self.lost = False

    def __repr__(self) -> str:
        return f"<Attempt {self.message.task}[{self.message.id}] of {self.delivery.queue}>"

    async def update_state(self, state: str, meta: Any) -> None:
        if not self.ignore_result:
            await self.states.store_state(self, state, meta)

    async def store_started(self) -> None:
        await self.update_state("STARTED", {"pid": os.getpid(), "hostname": self.context.node})

    def headers(self) -> Mapping[str, Any]:
        return custom_headers(self.delivery.content, limits=self.limits)

    def log_fields(self) -> dict[str, Any]:
        """Fields of every log line about it. Never arguments, never results."""
        return {
            "task": self.message.task,
            "task_id": self.message.id,
            "queue": self.delivery.queue,
            "delivery_tag": self.delivery.tag,
            "retries": self.message.retries,
        }
