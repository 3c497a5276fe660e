"""A worker that is lost may have died, or only slept past its lease: nobody is punished for that."""

from __future__ import annotations

import os
import signal

import pytest

from asyncq._suspicion import Suspicion, write_suspicions
from asyncq.driver import Consumer, ConsumerOptions, Queue
from suspects.kit import LEASE, QUEUE, Kit
from waiting import until

pytestmark = pytest.mark.slow

_DEATHS = ["a crowd", "one", "two", "three"]  # one less than the most


async def test_what_was_lost_among_others_is_quarantined_and_never_counted(kit: Kit) -> None:
    lost = await kit.send_again("innocent")
    accused = await kit.send_again("innocent")
    for result, deaths in ((lost, []), (accused, _DEATHS)):
        await write_suspicions(kit.coordination, [(result.id, Suspicion(deaths=deaths, node="cut-off@host"))])
    async with kit.worker() as worker:
        for result in (lost, accused):
            assert await result.get(20) != worker.pid
        await until(kit.is_settled)
        assert worker.stop() == 0
    assert await kit.dead() == []


async def test_a_doubt_outlives_a_stop(kit: Kit) -> None:
    result = await kit.send_again("innocent", 3600)
    await write_suspicions(kit.coordination, [(result.id, Suspicion(node="cut-off@host"))])
    async with kit.worker(shutdown_timeout=0.2) as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        assert worker.stop() == 0
    assert await kit.file_of(result) == (None, Suspicion(doubtful=True))


async def test_a_worker_that_slept_past_its_lease_takes_back_what_it_put_down(kit: Kit) -> None:
    result = await kit.send_again("innocent", 1.0)
    other = kit.broker.consume([Queue(name=QUEUE)], ConsumerOptions(node="other@host", lease=LEASE))
    async with kit.worker(lease=1.0, name="sleeper") as sleeper:
        await until(lambda: kit.ledger.count("START") == 1)
        os.kill(sleeper.pid, signal.SIGSTOP)

        await until(lambda: _is_rescued(kit, other))
        [_] = await other.receive(1)
        _, put_down = await kit.file_of(result)
        assert put_down is not None
        assert put_down.node.startswith("sleeper@")
        os.kill(sleeper.pid, signal.SIGCONT)

        async def is_taken_back() -> bool:
            return await kit.file_of(result) == (None, None)

        await until(is_taken_back)
        sleeper.kill()
    await other.close()


async def test_a_worker_that_slept_and_receives_its_own_task_again_presumes_no_death(kit: Kit) -> None:
    result = await kit.send_again("innocent", 3600, deaths=["a crowd"])
    other = kit.broker.consume([Queue(name=QUEUE)], ConsumerOptions(node="other@host", lease=LEASE))
    async with kit.worker(lease=1.0, name="sleeper") as sleeper:
        await until(lambda: kit.ledger.count("START") == 1)
        os.kill(sleeper.pid, signal.SIGSTOP)
        await until(lambda: _is_rescued(kit, other))
        os.kill(sleeper.pid, signal.SIGCONT)
        await until(lambda: kit.ledger.count("START") == 2)
        _, suspicion = await kit.file_of(result)
        assert suspicion is not None
        assert suspicion.node.startswith("sleeper@")
        assert suspicion.deaths == ["a crowd"]
        sleeper.kill()
    await other.close()


async def _is_rescued(kit: Kit, other: Consumer) -> bool:
    """Whether the lease has ended, and the message is back on its queue."""
    await other.maintain()
    return (await kit.broker.depth(QUEUE)).in_flight == 0
