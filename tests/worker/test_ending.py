"""How long the end may take: what is granted to running tasks, and two seconds after that whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from asyncq.driver import Delivery, Settlement, StoredResult
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker
from simulation.world import World
from virtual import virtual

#: Seconds beyond what is granted: none, but for the rounding of timers.
SLACK = 0.01


class Stubborn:
    """Tasks that don't end when they are cancelled."""

    def __init__(self, world: World) -> None:
        self._over = asyncio.Event()
        for task in (self.swallows, self.lingers):
            world.task(task)

    async def swallows(self) -> None:
        while not self._over.is_set():
            try:
                await self._over.wait()
            except asyncio.CancelledError:
                continue

    async def lingers(self) -> None:
        try:
            await self._over.wait()
        finally:
            await self._over.wait()

    async def end(self) -> None:
        """Let them end at last: the test must leave nothing behind."""
        self._over.set()
        await asyncio.sleep(0.1)


class Away:
    """Servers that answer nothing from some moment on."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gone = False
        self.broker = MemoryBroker(world.config)
        self.backend = MemoryBackend(world.config)
        consume, store = self.broker.consume, self.backend.store

        def consumer_of(*args: object, **kwargs: object) -> object:
            consumer = consume(*args, **kwargs)  # type: ignore[arg-type] - passed through
            settle = consumer.settle

            async def settles(settlements: Sequence[Settlement]) -> list[Delivery]:
                await self._answers()
                return await settle(settlements)

            monkeypatch.setattr(consumer, "settle", settles)
            return consumer

        async def stores(results: Sequence[StoredResult]) -> list[bool]:
            await self._answers()
            return await store(results)

        monkeypatch.setattr(self.broker, "consume", consumer_of)
        monkeypatch.setattr(self.backend, "store", stores)

    async def _answers(self) -> None:
        if self.gone:
            await asyncio.Event().wait()


@pytest.mark.parametrize("name", ["swallows", "lingers"])
@virtual
async def test_after_what_running_tasks_get_it_takes_no_longer_than_the_grace(name: str) -> None:
    world = World()
    stubborn = Stubborn(world)
    async with world.worker(shutdown_timeout=8.0, kill_grace=2.0) as worker:
        for _ in range(5):
            await world.send(name)
        await world.reaches(lambda: worker.stats.received == 5, within=10)
        began = world.loop.time()
        worker.stop()
        await worker.wait()
        assert 8.0 < world.loop.time() - began <= 10.0 + SLACK
    assert (await world.depth()).ready == 5
    await stubborn.end()


@pytest.mark.parametrize("name", ["swallows", "lingers"])
@virtual
async def test_the_second_signal_takes_a_second_at_most(name: str) -> None:
    world = World()
    stubborn = Stubborn(world)
    for pause in (0.0, 3.0, 8.5):  # also while the cancelled clean up
        async with world.worker(shutdown_timeout=8.0, kill_grace=2.0) as worker:
            await world.send(name)
            await world.reaches(lambda: worker.stats.received == 1, within=10)
            worker.stop()
            await asyncio.sleep(pause)
            began = world.loop.time()
            worker.stop(now=True)
            await worker.wait()
            assert world.loop.time() - began <= 1.0 + SLACK
        assert (await world.depth()).ready == 1
        await world.broker.purge("celery")
    await stubborn.end()


@pytest.mark.parametrize("now", [False, True])
@virtual
async def test_servers_that_answer_nothing_do_not_hold_it_up(now: bool) -> None:
    world = World()

    async def ends() -> None:
        await asyncio.sleep(1)

    world.task(ends)
    stubborn = Stubborn(world)
    with pytest.MonkeyPatch.context() as monkeypatch:
        away = Away(world, monkeypatch)
        async with world.worker(
            broker=away.broker, backend=away.backend, shutdown_timeout=8.0, kill_grace=2.0
        ) as worker:
            await world.send("ends")
            await world.send("swallows")
            await world.reaches(lambda: worker.stats.received == 2, within=10)
            away.gone = True
            await asyncio.sleep(2)
            began = world.loop.time()
            worker.stop(now=now)
            await worker.wait()
            assert world.loop.time() - began <= (1.0 if now else 10.0) + SLACK
    await stubborn.end()


@virtual
async def test_whatever_ends_in_time_is_waited_for_no_longer_than_it_takes() -> None:
    world = World()

    async def ends() -> str:
        await asyncio.sleep(3)
        return "done"

    world.task(ends)
    async with world.worker(shutdown_timeout=8.0) as worker:
        task_id = await world.send("ends")
        await world.reaches(lambda: worker.stats.received == 1, within=10)
        began = world.loop.time()
        worker.stop()
        await worker.wait()
        assert world.loop.time() - began <= 3.1
    record = await world.record(task_id)
    assert record is not None
    assert record.result == "done"


@virtual
async def test_without_a_grace_there_is_still_time_to_hand_back() -> None:
    world = World()
    stubborn = Stubborn(world)
    async with world.worker(shutdown_timeout=0.0, kill_grace=0.0) as worker:
        await world.send("lingers")
        await world.reaches(lambda: worker.stats.received == 1, within=10)
    assert (await world.depth()).ready == 1
    await stubborn.end()
