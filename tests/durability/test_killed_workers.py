"""`kill -9` of a worker in the middle of its work: nothing is lost, and others go on."""

from __future__ import annotations

import pytest

from asyncq import AsyncQ
from chaos.ledger import Ledger
from durability.kit import MakeWorker, duplicates, ids, interrupted, is_settled, send, values
from waiting import Gate, until

pytestmark = pytest.mark.slow

#: Tasks at a time in each worker, and the most settlements that may be under way when it is killed.
_CONCURRENCY, _BATCH = 20, 100
_LEASE = 1.0


async def test_a_neighbour_takes_over_what_a_killed_worker_held(
    client: AsyncQ, ledger: Ledger, gate: Gate, make_worker: MakeWorker
) -> None:
    async with (
        make_worker(name="victim", concurrency=_CONCURRENCY, lease=_LEASE) as victim,
        make_worker(name="neighbour", concurrency=_CONCURRENCY, lease=_LEASE) as neighbour,
    ):
        results = await send(client, range(1000), pause=0.02, gate=gate)
        pid, heir = victim.pid, neighbour.pid
        await until(lambda: ledger.writers("START")[pid] > 5 * _CONCURRENCY)
        victim.kill()
        cut_off = interrupted(ledger, pid)
        assert cut_off
        gate.open()

        assert await values(results) == list(range(1000))
        assert ledger.runs("END").keys() == ids(results)
        assert cut_off <= {record.task_id for record in ledger.entries("END") if record.pid == heir}
        assert duplicates(ledger) <= _CONCURRENCY + _BATCH
        await until(lambda: is_settled(client))
        assert neighbour.stop() == 0


async def test_workers_that_are_killed_again_and_again_lose_nothing(
    client: AsyncQ, ledger: Ledger, gate: Gate, make_worker: MakeWorker
) -> None:
    results = await send(client, range(1000), pause=0.02, gate=gate)
    kills, cut_off = 3, set[str]()
    for _ in range(kills):
        async with make_worker(concurrency=_CONCURRENCY, lease=_LEASE) as victim:
            pid = victim.pid
            await until(lambda pid=pid: ledger.writers("START")[pid] >= _CONCURRENCY)
            victim.kill()
            cut_off |= interrupted(ledger, pid)
    assert cut_off
    gate.open()

    async with make_worker(concurrency=_CONCURRENCY, lease=_LEASE) as heir:
        assert await values(results) == list(range(1000))
        assert ledger.runs("END").keys() == ids(results)
        assert duplicates(ledger) <= kills * (_CONCURRENCY + _BATCH)
        await until(lambda: is_settled(client))
        assert heir.stop() == 0
