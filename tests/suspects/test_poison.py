"""A task that kills whatever runs it, among innocents."""

from __future__ import annotations

import asyncio
import json

import pytest

from asyncq.errors import WorkerLostError
from suspects.kit import Kit, Watched, bury, rescue
from waiting import until

pytestmark = pytest.mark.slow

_INNOCENTS = 6


@pytest.mark.parametrize(
    ("poison", "end"), [("exits", "exit code 3"), ("segfaults", "SIGSEGV"), ("kills_itself", "SIGKILL")]
)
async def test_a_poison_is_dead_lettered_and_no_innocent_is(kit: Kit, poison: str, end: str) -> None:
    innocents = [await kit.send("innocent", 0.2) for _ in range(_INNOCENTS)]
    guilty = await kit.send(poison)
    async with Watched(kit, "shop-1", concurrency=_INNOCENTS + 1) as worker:
        worker.program.wait()
        assert await rescue(worker.brief, bury(worker, suspect=True)) == ["ok"]
    async with Watched(kit, "shop-2", concurrency=_INNOCENTS + 1) as worker:
        await asyncio.gather(*(result.get(30) for result in innocents))
        with pytest.raises(WorkerLostError, match=end):
            await guilty.get(30)
        await until(kit.is_settled)
        await until(lambda: worker.flights == [])
        worker.program.kill()
    assert kit.ledger.runs("START")[guilty.id] == 5
    [letter] = await kit.dead()
    assert letter.attempts == 5
    assert letter.reason is not None
    assert letter.reason.count(end) == 4
    assert "shop-1@" in letter.reason
    for result in (*innocents, guilty):
        assert await kit.file_of(result) == (None, None)


async def test_deaths_that_nobody_saw_count_as_well(kit: Kit) -> None:
    result = await kit.send_again("innocent", 3600, deaths=["a crowd", "one", "two", "three"])
    async with kit.worker(lease=1.0) as victim:
        await until(lambda: kit.ledger.count("START") == 1)
        victim.kill()
    async with kit.worker(lease=1.0) as worker:
        with pytest.raises(WorkerLostError):
            await result.get(20)
        await until(kit.is_settled)
        assert worker.stop() == 0
    assert kit.ledger.count("START") == 1
    [letter] = await kit.dead()
    assert letter.attempts == 5


async def test_memory_that_is_not_there_is_the_failure_of_one_task(kit: Kit) -> None:
    innocents = [await kit.send("innocent") for _ in range(3)]
    suspect = await kit.send_again("takes_memory", deaths=["a crowd"])
    greedy = await kit.send("takes_memory")
    async with kit.worker(memory=3 << 30) as worker:
        for result in (suspect, greedy):
            with pytest.raises(MemoryError):
                await result.get(20)
        for result in innocents:
            await result.get(20)
        await until(kit.is_settled)
        assert worker.stop() == 0


async def test_the_process_of_a_process_task_tells_what_it_died_of(kit: Kit) -> None:
    died, awkward = await kit.send("exits_in_process", 7), await kit.send("raises_awkwardly")
    async with kit.worker() as worker:
        assert (await kit.record(died)).result == {
            "exc_type": "WorkerLostError",
            "exc_message": ["its process ended with exit code 7"],
            "exc_module": "billiard.exceptions",
        }
        assert "Awkward" in json.dumps((await kit.record(awkward)).result)
        await until(kit.is_settled)
        assert worker.stop() == 0
