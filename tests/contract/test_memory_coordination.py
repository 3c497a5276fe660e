"""The memory drivers keep the contract of coordination: in threads too, and by the clock exactly."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asyncq._clock import new_id, system_environment
from asyncq.driver import DriverConfig, Environment, Fact
from asyncq.testing.coordination_contract import CoordinatingDriver, CoordinationContract, MakeDriver
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers._clients import memory
from asyncq_brokers.memory import MemoryBroker
from clocks import SetClock


@pytest.mark.parametrize("kind", [MemoryBroker, MemoryBackend])
class TestMemoryCoordination(CoordinationContract):
    @pytest.fixture
    def make_driver(self, kind: type[MemoryBroker | MemoryBackend]) -> MakeDriver:
        shared: dict[str, Any] = {}

        def make(*, timeout: float = 10.0) -> CoordinatingDriver:
            environment = system_environment()
            return kind(
                DriverConfig(url="memory://", app="contract", environment=environment, timeout=timeout, shared=shared)
            )

        return make


def config(clock: SetClock, url: str = "memory://", shared: dict[str, Any] | None = None) -> DriverConfig:
    environment = Environment(clock=clock, random=random.Random(0), new_id=new_id)
    return DriverConfig(url=url, app="clock", environment=environment, shared={} if shared is None else shared)


async def test_brokers_and_backends_of_one_url_share_their_facts() -> None:
    shared: dict[str, Any] = {}
    broker = MemoryBroker(config(SetClock(), shared=shared))
    backend = MemoryBackend(config(SetClock(), shared=shared))
    stranger = MemoryBackend(config(SetClock(), url="memory://other", shared=shared))

    await broker.coordination.put([Fact(key="a", value=b"1", ttl=1.0)])

    assert await backend.coordination.get(["a"]) == [b"1"]
    assert await stranger.coordination.get(["a"]) == [None]


async def test_a_fact_lives_exactly_as_long_as_it_shall() -> None:
    clock = SetClock()
    coordination = MemoryBroker(config(clock)).coordination
    await coordination.put([Fact(key="a", value=b"1", ttl=2.0)])

    clock.now += 1.999
    assert await coordination.get(["a"]) == [b"1"]
    clock.now += 0.001
    assert await coordination.get(["a"]) == [None]


async def test_tokens_come_exactly_at_their_times() -> None:
    clock = SetClock()
    take = MemoryBroker(config(clock)).coordination.take

    assert [await take("b", rate=4.0) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    clock.now += 0.75
    assert [await take("b", rate=4.0) for _ in range(2)] == [0.25, 0.5]
    clock.now += 50.0
    assert [await take("b", rate=4.0, capacity=3) for _ in range(5)] == [0.0, 0.0, 0.0, 0.25, 0.5]
    clock.now += 0.75
    assert [await take("b", rate=4.0, capacity=3) for _ in range(2)] == [0.0, 0.25]


async def test_a_rate_that_floats_cannot_say_gives_whole_buckets() -> None:
    """What is there is there at once, not after the rest of a sum."""
    clock = SetClock()
    clock.now = 1.7e9 + 1 / 7
    take = MemoryBroker(config(clock)).coordination.take

    assert [await take("b", rate=13.0, capacity=500) for _ in range(500)] == [0.0] * 500
    assert await take("b", rate=13.0, capacity=500) == pytest.approx(1 / 13, abs=1e-4)


async def test_what_has_expired_leaves_the_memory() -> None:
    clock, shared = SetClock(), dict[str, Any]()
    coordination = MemoryBroker(config(clock, shared=shared)).coordination
    await coordination.put([Fact(key=f"a{number}", value=b"1", ttl=1.0) for number in range(100)])
    for number in range(100):
        await coordination.take(f"b{number}", rate=1.0)

    clock.now += memory.SWEEP
    await coordination.put([Fact(key="stays", value=b"1", ttl=1.0)])

    (store,) = (value for key, value in shared.items() if key.startswith(memory.__name__))
    assert len(vars(store)["_facts"]) == 1
    assert len(vars(store)["_buckets"]) == 0


def test_event_loops_in_several_threads_coordinate() -> None:
    shared: dict[str, Any] = {}

    async def count(number: int) -> tuple[list[int], list[bool]]:
        driver = (
            MemoryBroker(config(SetClock(), shared=shared))
            if number % 2
            else MemoryBackend(config(SetClock(), shared=shared))
        )
        counts = [await driver.coordination.incr("count", ttl=1.0) for _ in range(500)]
        won = [
            (await driver.coordination.put([Fact(key=f"lock.{n}", value=b"", ttl=1.0)], if_absent=True))[0]
            for n in range(500)
        ]
        return counts, won

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda number: asyncio.run(count(number)), range(4)))

    assert sorted(count for counts, _ in outcomes for count in counts) == list(range(1, 2001))
    assert sum(won for _, wins in outcomes for won in wins) == 500
