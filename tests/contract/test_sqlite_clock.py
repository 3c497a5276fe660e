"""SQLite's leases under a clock that is set while they run."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncq._clock import SystemClock, new_id
from asyncq.driver import Broker, Consumer, ConsumerOptions, DriverConfig, Environment, Queue
from asyncq.testing._broker_kit import bodies, publish
from asyncq_brokers.sqlite import SQLiteBroker

HOUR = 3600.0
LEASE = 60.0


class SettableClock(SystemClock):
    """Both clocks go on by themselves; tests move them, together (time passes) or apart (somebody sets the date)."""

    passed = 0.0
    set_by = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed

    def wall(self) -> float:
        return super().wall() + self.passed + self.set_by


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def broker(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Broker]:
    environment = Environment(clock=clock, random=random.Random(), new_id=new_id)
    broker = SQLiteBroker(DriverConfig(url=f"sqlite:///{tmp_path}/clock.db", app="contract", environment=environment))
    await broker.open()
    yield broker
    await broker.close()


def consumer_of(broker: Broker, node: str) -> Consumer:
    return broker.consume([Queue(name="celery")], ConsumerOptions(node=node, lease=LEASE))


async def ready(broker: Broker) -> int:
    return (await broker.depth("celery")).ready


async def test_a_lease_ends_when_its_time_has_passed(broker: Broker, clock: SettableClock) -> None:
    await publish(broker, "celery", b"0")
    dead, alive = consumer_of(broker, "dead"), consumer_of(broker, "alive")
    await dead.receive(1)

    for passed, expected in ((LEASE - 1, 0), (LEASE + 1, 1)):
        clock.passed = passed
        await alive.maintain()
        assert await ready(broker) == expected


async def test_a_clock_set_forward_takes_nothing_from_the_living(broker: Broker, clock: SettableClock) -> None:
    await publish(broker, "celery", b"0", b"1")
    dead, alive, other = (consumer_of(broker, node) for node in ("dead", "alive", "other"))
    await dead.receive(1)
    held = await alive.receive(1)

    clock.set_by = HOUR
    await other.maintain()
    assert await ready(broker) == 0
    clock.passed = LEASE / 3
    assert await alive.extend(held) == []  # as a keeper does
    clock.passed = LEASE + 1
    await other.maintain()

    # The dead one's is free a lease after the jump, the living one's is still its own.
    assert bodies(await other.receive(2)) == [b"0"]
    assert await alive.extend(held) == []


async def test_a_clock_set_back_lengthens_no_lease(broker: Broker, clock: SettableClock) -> None:
    await publish(broker, "celery", b"0")
    dead, alive = consumer_of(broker, "dead"), consumer_of(broker, "alive")
    await dead.receive(1)

    clock.set_by = -HOUR
    await alive.maintain()
    assert await ready(broker) == 0
    clock.passed = LEASE + 2
    await alive.maintain()

    assert await ready(broker) == 1


async def test_a_slow_drift_is_no_jump(broker: Broker, clock: SettableClock) -> None:
    await publish(broker, "celery", b"0")
    dead, alive = consumer_of(broker, "dead"), consumer_of(broker, "alive")
    await dead.receive(1)

    for second in range(int(LEASE) + 2):  # half a second gained in each
        clock.passed, clock.set_by = float(second), second * 0.5
        await alive.maintain()

    assert await ready(broker) == 1
