"""Tasks that are not due: what they cost a worker that has parked them, and when they run."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from asyncq import AsyncQ
from asyncq.driver import Broker
from chaos.gauges import processor_time, resident
from chaos.ledger import Ledger
from durability.kit import MakeWorker, ids, is_settled
from waiting import until

#: Tells what was measured: `pytest --log-cli-level=INFO`.
logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds until the machine must have sent and parked the many.
_PATIENCE = 300.0

#: Bytes that they may cost a worker.
_MOST_MEMORY = 20 * 1024 * 1024

#: Part of a processor that a worker may need to wait for them, and the seconds over which that is looked at.
_MOST_LOAD, _WINDOW = 0.1, 5.0

#: Seconds after its time at which a task must have begun, however busy the machine is.
_MOST_LATE = 5.0


@pytest.fixture
async def broker(client: AsyncQ) -> AsyncIterator[Broker]:
    """A look at the queue."""
    broker = client.make_broker()
    await broker.open()
    yield broker
    await broker.close()


@pytest.mark.parametrize("mass", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_a_mass_of_parked_tasks_costs_a_worker_next_to_nothing(
    mass: int, client: AsyncQ, broker: Broker, ledger: Ledger, make_worker: MakeWorker
) -> None:
    in_an_hour = client.signature({"task": "durability.clock", "options": {"countdown": 3600}})
    async with make_worker() as worker:
        await (await client.send_task("durability.clock")).get(20)  # so that all is loaded that it needs
        before = resident(worker.pid)
        begun = time.monotonic()
        for _ in range(mass // 1000):
            await client.send_many([in_an_hour] * 1000)

        async def all_are_parked() -> bool:
            depth = await broker.depth("celery")
            return (depth.ready, depth.in_flight, depth.parked) == (0, 0, mass)

        await until(all_are_parked, timeout=_PATIENCE)
        seconds, grown = time.monotonic() - begun, resident(worker.pid) - before
        logger.info("%d tasks sent and parked in %.1f s, at a cost of %.1f MiB", mass, seconds, grown / 2**20)
        assert grown < _MOST_MEMORY

        start, used = time.monotonic(), processor_time(worker.pid)
        await until(lambda: time.monotonic() - start > _WINDOW)
        load = (processor_time(worker.pid) - used) / (time.monotonic() - start)
        logger.info("the worker waits for them with %.2f %% of a processor", 100 * load)
        assert load < _MOST_LOAD

        # And one that is due before all of them runs on time.
        due = time.time() + 1
        soon = await client.send_task("durability.stamp", eta=datetime.fromtimestamp(due, UTC))
        await soon.get(20)
        [record] = ledger.entries("RAN")
        assert 0 <= record.wall - due < _MOST_LATE
        assert worker.stop() == 0
    assert (await broker.depth("celery")).parked == mass


async def test_parked_tasks_run_once_and_never_early_whoever_returns_them(
    client: AsyncQ, ledger: Ledger, make_worker: MakeWorker
) -> None:
    """200 at dates all over five seconds, with three workers that all look after them."""
    async with make_worker(name="one"), make_worker(name="two"), make_worker(name="three"):
        first = datetime.now(UTC) + timedelta(seconds=2)
        dates = [first + timedelta(seconds=random.uniform(0, 5)) for _ in range(200)]
        results = [await client.send_task("durability.stamp", eta=date) for date in dates]
        for result in results:
            await result.get(30)
        await until(partial(is_settled, client))

    assert ledger.runs("RAN") == dict.fromkeys(ids(results), 1)
    ran = {record.task_id: record.wall for record in ledger.entries("RAN")}
    late = sorted(ran[result.id] - date.timestamp() for result, date in zip(results, dates, strict=True))
    logger.info("late by %.0f ms (median), %.0f ms (99 %%)", late[100] * 1000, late[198] * 1000)
    assert late[0] >= 0
    assert late[-1] < _MOST_LATE
