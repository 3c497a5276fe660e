"""A suspect in quarantine: it has all that a worker gives a task, and its death hurts nobody."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from asyncq._cores import usable_cores
from asyncq._suspicion import Suspicion
from asyncq.errors import TimeLimitExceeded, WorkerLostError
from asyncq.protocol import decode_result
from suspects.kit import QUEUE, Kit
from waiting import Gate, until

# Which store it is makes no difference to what crosses between two processes.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("url", ["sqlite"], indirect=True)]


#: Suspects that run at a time.
_PLACES = max(2, usable_cores())


async def test_suspects_run_in_other_processes_and_are_cleared_when_they_end(kit: Kit) -> None:
    suspects = [await kit.send_again("innocent", deaths=["a crowd"]) for _ in range(_PLACES + 1)]
    suspects.append(await kit.send_again("innocent_in_thread", deaths=["a crowd"]))
    usual = await kit.send("innocent")
    async with kit.worker() as worker:
        pids = {await suspect.get(20) for suspect in suspects}
        assert worker.pid not in pids
        assert len(pids) <= _PLACES  # they are used again
        assert await usual.get(20) == worker.pid
        await until(kit.is_settled)
        for suspect in suspects:
            assert await kit.file_of(suspect) == (None, None)
        assert worker.stop() == 0


async def test_suspects_do_not_wait_for_each_other_as_long_as_there_are_cores(kit: Kit) -> None:
    for _ in range(_PLACES + 1):
        await kit.send_again("innocent", 3600, deaths=["a crowd"])
    async with kit.worker(shutdown_timeout=0.2) as worker:
        await until(lambda: kit.ledger.count("START") == _PLACES)
        assert len({entry.pid for entry in kit.ledger.entries("START")} - {worker.pid}) == _PLACES
        assert worker.stop() == 0
    assert kit.ledger.count("START") == _PLACES


async def test_a_task_finds_all_it_needs_in_quarantine(kit: Kit) -> None:
    result = await kit.send_again("looks_around", deaths=["a crowd"], headers={"tenant": "acme", "colour": "red"})
    async with kit.worker(name="shop") as worker:
        seen = [update async for update in result]
        found = await result.get(20)
        assert found["pid"] != worker.pid
        assert found["pool"] == f"pool of {found['pid']}"
        assert found["session"] == f"session of {result.id}"
        assert (found["tenant"], found["colour"], found["redelivered"]) == ("acme", "red", True)
        assert found["node"].startswith("shop@")
        assert await kit.app.result(found["child"]).get(20) == worker.pid
        [raw] = await kit.backend.get([result.id])
        assert raw is not None
        assert decode_result(raw).children == [[[found["child"], None], None]]
        assert "PROGRESS" in {update.status for update in seen}
        assert worker.stop() == 0
    # The pool: tried in quarantine, opened and closed for the run, and at last the worker's own.
    assert [record.task_id for record in kit.ledger.entries("CLOSED")] == ["pool", "session", "pool", "pool"]


async def test_every_end_of_a_task_crosses(kit: Kit) -> None:
    crowd = {"deaths": ["a crowd"]}
    again = await kit.send_again("asks_again", **crowd)
    stubborn = await kit.send_again("raises_what_cannot_cross", **crowd)
    model = await kit.send_again("takes_an_order", {"number": 1}, **crowd)
    stuck = await kit.send_again("returns_a_generator", **crowd)
    soft = await kit.send_again("is_told_to_stop", **crowd)
    rejected = await kit.send_again("rejects", **crowd)
    await kit.send_again("snoozes", **crowd)
    async with kit.worker() as worker:
        assert await again.get(20) == 1
        failure = await kit.record(stubborn)
        assert (failure.status, failure.result["exc_type"]) == ("FAILURE", "Awkward")
        assert kit.ledger.runs("RUN")[stubborn.id] == 3  # the first in quarantine, the retries as usual
        assert await model.get(20) == {"number": 2}
        assert (await kit.record(stuck)).result["exc_type"] == "EncodeError"
        assert await soft.get(20) == "told"
        assert (await kit.record(rejected)).result["exc_type"] == "Reject"
        await until(lambda: _is_parked(kit))
        assert len(await kit.dead()) == 1
        assert worker.stop() == 0


async def test_an_exception_that_cannot_cross_is_told_with_its_traceback(kit: Kit) -> None:
    result = await kit.send_again("fails_awkwardly", deaths=["a crowd"])
    async with kit.worker() as worker:
        failure = await kit.record(result)
        assert failure.result["exc_message"] == ["suspects.shop.Awkward", "code 2"]
        assert "raise Awkward" in (failure.traceback or "")
        assert worker.stop() == 0


async def test_the_hard_limit_ends_a_suspect_that_blocks_and_the_next_one_runs(kit: Kit) -> None:
    blocked = await kit.send_again("blocks", deaths=["a crowd"])
    after = await kit.send_again("innocent", deaths=["a crowd"])
    async with kit.worker() as worker:
        with pytest.raises(TimeLimitExceeded):
            await blocked.get(20)
        assert await after.get(20) != worker.pid
        await until(kit.is_settled)
        assert await kit.file_of(blocked) == (None, None)
        assert worker.stop() == 0


async def test_what_a_suspect_leaves_behind_is_not_the_next_ones_fault(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCQ_MAX_DELIVERIES", "2")
    gate = Gate(tmp_path / "gate")
    bombers = [await kit.send_again("leaves_a_bomb", str(gate.path), deaths=["a crowd"]) for _ in range(_PLACES)]
    after = await kit.send_again("innocent", 2.0, deaths=["a crowd"])
    async with kit.worker() as worker:
        mined = {await bomber.get(20) for bomber in bombers}
        await until(lambda: kit.ledger.count("START") == 1)
        assert kit.ledger.entries("START")[0].pid in mined
        gate.open()
        assert await after.get(20) not in {*mined, worker.pid}
        await until(kit.is_settled)
        assert worker.stop() == 0
    assert kit.ledger.runs("START")[after.id] == 2
    assert await kit.dead() == []


async def test_a_death_in_company_counts_once_another_one_alone_has_proved_it(kit: Kit) -> None:
    before = [await kit.send_again("innocent", deaths=["a crowd"]) for _ in range(max(2, usable_cores()))]
    poison = await kit.send_again("exits", deaths=["a crowd"])
    async with kit.worker() as worker:
        with pytest.raises(WorkerLostError):
            await poison.get(40)
        assert worker.stop() == 0
    assert kit.ledger.count("END") == len(before)
    # The first of them in a process that an innocent had used; with the crowd's death it makes five.
    assert kit.ledger.runs("START")[poison.id] == 4


async def test_a_stop_puts_back_what_spoke_against_those_that_it_interrupts(kit: Kit) -> None:
    clean = await kit.send_again("innocent", 3600)
    suspect = await kit.send_again("innocent", 3600, deaths=["a crowd"])
    async with kit.worker(shutdown_timeout=0.2) as worker:
        await until(lambda: kit.ledger.count("START") == 2)
        for result in (clean, suspect):
            _, begun = await kit.file_of(result)
            assert begun is not None
            assert begun.node
        assert worker.stop() == 0
    assert await kit.file_of(clean) == (None, None)
    assert await kit.file_of(suspect) == (None, Suspicion(deaths=["a crowd"]))
    assert (await kit.broker.depth(QUEUE)).ready == 2


async def test_a_signal_to_all_processes_of_a_service_speaks_against_nobody(kit: Kit) -> None:
    result = await kit.send_again("innocent", 1.0, deaths=["a crowd"])
    async with kit.worker() as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        [started] = kit.ledger.entries("START")
        os.kill(started.pid, signal.SIGTERM)
        assert worker.stop() == 0
    assert await result.get(20) == started.pid


async def test_a_suspect_that_no_other_process_can_find_runs_among_others(kit: Kit) -> None:
    result = await kit.send_again("hidden", deaths=["a crowd"])
    async with kit.worker() as worker:
        assert await result.get(20) == worker.pid
        assert worker.stop() == 0


async def test_an_app_that_cannot_be_set_up_twice_runs_its_suspects_among_others(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUSPECTS_EXCLUSIVE", str(tmp_path / "taken"))
    result = await kit.send_again("innocent", deaths=["a crowd"])
    async with kit.worker() as worker:
        assert await result.get(20) == worker.pid
        assert worker.stop() == 0


async def _is_parked(kit: Kit) -> bool:
    return (await kit.broker.depth(QUEUE)).parked == 1
