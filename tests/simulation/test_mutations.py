"""The simulation finds what is broken: each of these faults, put into the runtime, is seen within a few seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from asyncq.driver import Ack, GiveBack, Publication, Requeue, Settlement
from asyncq.protocol import TaskMessage, encode_task
from asyncq.worker._attempt import Attempt
from asyncq.worker._concluder import Concluder
from asyncq.worker._conclusion import Conclusion
from asyncq.worker._dispatcher import Dispatcher
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._judge import Judge
from asyncq.worker._leases import LeaseKeeper
from asyncq.worker._maintenance import Maintenance
from asyncq.worker._outgoing import Message, Outgoing, Refusal
from asyncq.worker._receiver import Receiver
from asyncq.worker._recorder import Recorder
from asyncq.worker._settler import Settler, _Pending
from simulation.scenario import play

pytestmark = pytest.mark.usefixtures("brisk", "quiet")

#: Seeds in which a fault must show.
ENOUGH = 150

Mutation = Callable[[pytest.MonkeyPatch], None]


def acknowledged_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    act = Concluder._act

    async def _act(self: Concluder, conclusions: Sequence[Conclusion]) -> None:
        for conclusion in conclusions:
            if isinstance(conclusion.settlement, Ack):
                self._settler.put(conclusion.settlement)
                conclusion.settlement = None
        await asyncio.sleep(0.01)
        await act(self, conclusions)

    patch.setattr(Concluder, "_act", _act)


def a_settlement_is_dropped_when_the_broker_is_away(patch: pytest.MonkeyPatch) -> None:
    async def _again(self: Settler, batch: list[_Pending], error: Exception) -> None:
        self._finish(batch, [])

    patch.setattr(Settler, "_again", _again)


def leases_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def run(self: LeaseKeeper) -> None:
        await asyncio.Event().wait()

    patch.setattr(LeaseKeeper, "run", run)


def what_had_started_is_given_back_as_if_it_had_not(patch: pytest.MonkeyPatch) -> None:
    put = Settler.put

    def put_unblamed(self: Settler, settlement: Settlement, **more: Any) -> None:
        put(self, GiveBack(settlement.delivery) if isinstance(settlement, Requeue) else settlement, **more)

    patch.setattr(Settler, "put", put_unblamed)


def a_retry_is_sent_under_another_id(patch: pytest.MonkeyPatch) -> None:
    def _again(self: Judge, attempt: Attempt, *, due: float | None, retries: int) -> Publication:
        message = attempt.message
        copy = TaskMessage(task=message.task, id=f"{message.id}-again", args=message.args, retries=retries)
        return Publication(message=encode_task(copy), queue=attempt.delivery.queue, not_before=due)

    patch.setattr(Judge, "_again", _again)


def a_retry_is_sent_twice(patch: pytest.MonkeyPatch) -> None:
    publish = Outgoing.publish

    async def publish_twice(self: Outgoing, messages: Sequence[Message]) -> list[Refusal]:
        await publish(self, messages)
        return await publish(self, messages)

    patch.setattr(Outgoing, "publish", publish_twice)


def a_retry_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    async def publish(self: Outgoing, messages: Sequence[Message]) -> list[Refusal]:
        return []

    patch.setattr(Outgoing, "publish", publish)


def a_result_is_dropped_when_the_backend_is_away(patch: pytest.MonkeyPatch) -> None:
    async def store_current(self: Recorder, current: Callable[[], Awaitable[Sequence[Any]]]) -> dict[int, Any]:
        try:
            await self._backend.store(await current())
        except Exception:
            return {}
        return {}

    patch.setattr(Recorder, "store_current", store_current)


def early_is_late(patch: pytest.MonkeyPatch) -> None:
    async def _acknowledge(self: Executor, attempt: Attempt) -> None:
        self._settler.put(Ack(attempt.delivery))
        attempt.acknowledged = True

    patch.setattr(Executor, "_acknowledge", _acknowledge)


def what_starts_is_not_asked_whether_the_worker_stops(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Executor, "refuse_starts", lambda self: None)
    patch.setattr(Dispatcher, "give_back", lambda self: None)
    patch.setattr("asyncq.worker._dispatcher._PATIENCE", 3600.0)  # so that more stands there when it stops


def more_run_than_may(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flow, "slots", property(lambda self: self._concurrency + 1 - self.running))


def the_due_are_not_returned(patch: pytest.MonkeyPatch) -> None:
    async def run(self: Maintenance) -> None:
        await asyncio.Event().wait()

    patch.setattr(Maintenance, "run", run)


def a_received_batch_is_not_held(patch: pytest.MonkeyPatch) -> None:
    hold = LeaseKeeper.hold
    patch.setattr(LeaseKeeper, "hold", lambda self, deliveries: hold(self, deliveries[1:]))


def dates_are_not_heeded(patch: pytest.MonkeyPatch) -> None:
    def _admit_timed(self: Receiver, delivery: Any, message: TaskMessage, program: Any) -> None:
        self._let_in(self._attempt(delivery, message, program))

    patch.setattr(Receiver, "_admit_timed", _admit_timed)


MUTATIONS: list[Mutation] = [
    acknowledged_before_it_is_stored,
    a_settlement_is_dropped_when_the_broker_is_away,
    leases_are_not_kept,
    what_had_started_is_given_back_as_if_it_had_not,
    a_retry_is_sent_under_another_id,
    a_retry_is_sent_twice,
    a_retry_is_not_sent,
    a_result_is_dropped_when_the_backend_is_away,
    early_is_late,
    what_starts_is_not_asked_whether_the_worker_stops,
    more_run_than_may,
    the_due_are_not_returned,
    a_received_batch_is_not_held,
    dates_are_not_heeded,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_it_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    for seed in range(ENOUGH):
        try:
            play(seed)
        except AssertionError as error:
            print(str(error).partition("\n")[0])
            return
    pytest.fail(f"not seen in {ENOUGH} seeds")
