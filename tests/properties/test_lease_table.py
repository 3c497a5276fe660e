"""P8: leases of the memory broker against a model: never two owners, and what is kept stays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from asyncq.driver import (
    Ack,
    Consumer,
    ConsumerOptions,
    Dead,
    Delivery,
    DriverConfig,
    Environment,
    GiveBack,
    Park,
    Publication,
    Queue,
    Requeue,
    Settlement,
)
from asyncq.protocol import TaskMessage, dead_letter, decode_task, encode_task
from asyncq_brokers.memory import MemoryBroker
from virtual import VirtualClock, VirtualLoop, counting_ids

T = TypeVar("T")

LEASE = 10.0
NODES = ("one", "two", "three")
nodes = st.sampled_from(NODES)


class Held(Struct):
    """A delivery that the model knows to be somebody's."""

    delivery: Delivery
    task_id: str
    node: str
    ends: float


class LeaseTable(RuleBasedStateMachine):
    """Three nodes take, keep, settle, forget and lose messages of one queue."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        environment = Environment(clock=self.clock, random=random.Random(0), new_id=counting_ids())
        self.broker = MemoryBroker(DriverConfig(url="memory://", app="leases", environment=environment))
        self.consumers: dict[str, Consumer] = {
            node: self.broker.consume([Queue(name="q")], ConsumerOptions(node=node, lease=LEASE)) for node in NODES
        }
        self.sent = 0
        #: Every message is in exactly one of these.
        self.ready: set[str] = set()
        self.parked: dict[str, float] = {}
        self.held: dict[str, Held] = {}
        self.gone: set[str] = set()
        self.dead: set[str] = set()
        #: Deliveries whose leases are over, one way or the other.
        self.stale: list[Held] = []

    def teardown(self) -> None:
        self.do(self.broker.close())
        self.runner.close()

    def do(self, call: Coroutine[None, None, T]) -> T:
        return self.runner.run(call)

    # -- what nodes do

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        ids = [f"m{self.sent + number}" for number in range(count)]
        self.sent += count
        messages = [encode_task(TaskMessage(task="t", id=task_id)) for task_id in ids]
        self.do(self.broker.publish([Publication(message=message, queue="q") for message in messages]))
        self.ready.update(ids)

    @precondition(lambda self: self.ready)
    @rule(node=nodes, limit=st.integers(1, 5))
    def receive(self, node: str, limit: int) -> None:
        deliveries = self.do(self.consumers[node].receive(limit))
        assert len(deliveries) == min(limit, len(self.ready))
        for delivery in deliveries:
            task_id = decode_task(delivery.content).id
            assert task_id in self.ready, "it has another owner, or is parked, or gone"
            self.ready.discard(task_id)
            assert delivery.tag not in self.held
            self.held[delivery.tag] = Held(delivery, task_id, node, self.clock.monotonic() + LEASE)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(list(self.held.values())))
        assert self.do(self.consumers[held.node].extend([held.delivery])) == []
        held.ends = self.clock.monotonic() + LEASE

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from([Ack, Requeue, GiveBack, Park, Dead]))
    def settle(self, data: st.DataObject, kind: type[Settlement]) -> None:
        held = data.draw(st.sampled_from(list(self.held.values())))
        settlement = self.settlement(held, kind)
        assert self.do(self.consumers[held.node].settle([settlement])) == []
        self.end(held)
        match settlement:
            case Ack():
                self.gone.add(held.task_id)
            case Park(until=until):
                self.parked[held.task_id] = until
            case Dead():
                self.dead.add(held.task_id)
            case _:
                self.ready.add(held.task_id)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), kind=st.sampled_from([Ack, Requeue, GiveBack, Park, Dead]))
    def come_too_late(self, data: st.DataObject, kind: type[Settlement]) -> None:
        """Whoever has lost a delivery can neither keep it nor settle it, whoever has the message now."""
        held = data.draw(st.sampled_from(self.stale))
        consumer = self.consumers[held.node]
        assert self.do(consumer.extend([held.delivery])) == [held.delivery]
        assert self.do(consumer.settle([self.settlement(held, kind)])) == [held.delivery]

    @rule(seconds=st.floats(0, 1.5 * LEASE))
    def pass_time(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    @rule(node=nodes)
    def keep_house(self, node: str) -> None:
        pause = self.do(self.consumers[node].maintain())
        now, wall = self.clock.monotonic(), self.clock.wall()
        for held in [held for held in self.held.values() if held.ends <= now]:
            self.end(held)
            self.ready.add(held.task_id)
        for task_id in [task_id for task_id, until in self.parked.items() if until <= wall]:
            del self.parked[task_id]
            self.ready.add(task_id)
        assert pause > 0
        assert all(held.ends >= now + pause - 1e-6 for held in self.held.values()), "it would be looked at too late"

    @rule(node=nodes)
    def bury_a_dead_node(self, node: str) -> None:
        lost = [held for held in self.held.values() if held.node == node]
        assert self.do(self.broker.release(node)) == len(lost)
        for held in lost:
            self.end(held)
            self.ready.add(held.task_id)

    # -- the model

    def settlement(self, held: Held, kind: type[Settlement]) -> Settlement:
        if kind is Park:
            return Park(held.delivery, self.clock.wall() + LEASE)
        if kind is Dead:
            return Dead(held.delivery, dead_letter(held.delivery.content, queue="q", reason="", at=0.0, attempts=1))
        assert kind is Ack or kind is Requeue or kind is GiveBack
        return kind(held.delivery)

    def end(self, held: Held) -> None:
        del self.held[held.delivery.tag]
        self.stale.append(held)

    @invariant()
    def every_message_is_where_it_should_be(self) -> None:
        depth = self.do(self.broker.depth("q"))
        counts = (depth.ready, depth.in_flight, depth.parked, depth.dead)
        assert counts == (len(self.ready), len(self.held), len(self.parked), len(self.dead))
        assert sum(counts) + len(self.gone) == self.sent  # type: ignore[arg-type] - memory counts all places


TestLeaseTable = LeaseTable.TestCase
TestLeaseTable.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
