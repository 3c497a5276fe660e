"""The rescuer: what it does for a dead worker, as often as it is asked to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from asyncq._brief import Server, decode_brief, encode_brief
from asyncq._flight import Stage
from asyncq._suspicion import Conviction, Suspicion
from suspects.kit import QUEUE, Kit, Watched, bury, rescue
from waiting import until

pytestmark = pytest.mark.slow


def without_backend(raw: bytes) -> bytes:
    """The brief of a worker whose backend is away."""
    brief = decode_brief(raw)
    assert brief is not None
    away = Server(url="redis://127.0.0.1:1/0", options={}, tls=None)
    return encode_brief(msgspec.structs.replace(brief, backend=away))


async def test_what_a_dead_worker_ran_goes_back_at_once_and_is_suspect(kit: Kit) -> None:
    results = [await kit.send("innocent", 3600) for _ in range(3)]
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 3)
        worker.program.kill()
        for _ in range(2):  # once would do
            assert await rescue(worker.brief, bury(worker, suspect=True)) == ["ok"]
            for result in results:
                assert await kit.file_of(result) == (None, Suspicion(deaths=[f"{worker.node} died while it ran"]))
    depth = await kit.broker.depth(QUEUE)
    assert (depth.ready, depth.in_flight) == (3, 0)


async def test_a_worker_that_was_killed_on_purpose_leaves_no_suspects(kit: Kit) -> None:
    result = await kit.send_again("innocent", 3600)
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        _, begun = await kit.file_of(result)
        assert begun is not None
        assert begun.node == worker.node  # would count if nobody had seen the death
        worker.program.kill()
        assert await rescue(worker.brief, bury(worker, suspect=False)) == ["ok"]
        assert await kit.file_of(result) == (None, None)


async def test_a_death_speaks_against_no_suspect_in_quarantine(kit: Kit) -> None:
    deaths = ["a crowd"]
    result = await kit.send_again("innocent", 3600, deaths=deaths)
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        worker.program.kill()
        commands = [bury(worker, suspect=True)] * 2
        assert await rescue(worker.brief, *commands) == ["ok", "ok"]
        assert await kit.file_of(result) == (None, Suspicion(deaths=deaths))


@pytest.mark.parametrize(("task", "args"), [("innocent", [3600]), ("holds_the_interpreter", [])])
async def test_a_quarantined_process_dies_with_its_worker(kit: Kit, task: str, args: list[int]) -> None:
    await kit.send_again(task, *args, deaths=["a crowd"])
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        [started] = kit.ledger.entries("START")
        assert started.pid != worker.program.pid
        worker.program.kill()
        await until(lambda: not Path(f"/proc/{started.pid}/cmdline").exists())


async def test_what_goes_back_does_not_need_the_backend(kit: Kit) -> None:
    results = [await kit.send("innocent", 3600) for _ in range(2)]
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 2)
        worker.program.kill()
        away = without_backend(worker.brief)
        command = bury(worker, suspect=True)
        # It is waited for at first, where something is to be said of a task.
        [answer] = await rescue(away, command)
        assert answer.startswith("failed: BackendConnectionError")
        assert (await kit.broker.depth(QUEUE)).in_flight == 2
        assert await rescue(away, command | {"patient": False}) == ["ok"]
    depth = await kit.broker.depth(QUEUE)
    assert (depth.ready, depth.in_flight) == (2, 0)
    assert [await kit.file_of(result) for result in results] == [(None, None)] * 2


async def test_a_dead_worker_that_ran_nothing_needs_no_backend(kit: Kit) -> None:
    await kit.send("innocent", 3600)
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 1)
        worker.program.kill()
        command = bury(worker, suspect=True) | {"flights": []}
        assert await rescue(without_backend(worker.brief), command) == ["ok"]
    assert (await kit.broker.depth(QUEUE)).ready == 1


async def test_what_was_acknowledged_early_fails_and_what_had_ended_is_acknowledged(kit: Kit) -> None:
    lost, guilty, ended = [await kit.send("early") for _ in range(2)] + [await kit.send("innocent", 3600)]
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 3)
        worker.program.kill()
        flights = {flight.task_id: flight for flight in worker.flights}
        assert flights[lost.id].stage is Stage.ACKNOWLEDGED
        assert flights[ended.id].stage is Stage.RUNNING
        flights[ended.id] = flights[ended.id]._replace(stage=Stage.CONCLUDED)
        command = bury(worker, suspect=False, culprit=flights[guilty.id].slot) | {"flights": list(flights.values())}
        assert await rescue(worker.brief, command, command) == ["ok", "ok"]
    failure = await kit.record(lost)
    assert failure.status == "FAILURE"
    assert failure.result["exc_type"] == "WorkerLostError"
    assert failure.date_done is not None
    assert (await kit.record(guilty)).result["exc_type"] == "TimeLimitExceeded"
    assert await kit.is_settled()
    assert await kit.dead() == []


async def test_a_result_that_is_there_is_not_replaced(kit: Kit) -> None:
    result = await kit.send("innocent")
    async with Watched(kit, "first-1") as worker:
        assert await result.get(20) == worker.program.pid
        await until(kit.is_settled)
        worker.program.kill()
        flight = [1, Stage.ACKNOWLEDGED, False, 0.0, float("inf"), result.id, "innocent", QUEUE, "gone"]
        assert await rescue(worker.brief, bury(worker, suspect=True) | {"flights": [flight]}) == ["ok"]
        assert (await kit.record(result)).status == "SUCCESS"


async def test_convictions_are_kept(kit: Kit) -> None:
    result = await kit.send("innocent")
    async with Watched(kit, "first-1") as worker:
        command = {"do": "convict", "task_id": result.id, "reason": "it blocked the loop", "limit": 5.0}
        assert await rescue(worker.brief, command, command) == ["ok", "ok"]
    conviction, _ = await kit.file_of(result)
    assert conviction == Conviction("it blocked the loop", 5.0)


async def test_a_rescuer_that_is_killed_half_way_is_followed_by_one_that_finishes(kit: Kit) -> None:
    lost, ran = await kit.send("early"), await kit.send("innocent", 3600)
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == 2)
        worker.program.kill()
        for step in ("_put_right", "_tell_of_losses"):
            assert await rescue(worker.brief, bury(worker, suspect=True), dies_after=step) == []
        assert not await kit.is_settled()
        assert await rescue(worker.brief, bury(worker, suspect=True)) == ["ok"]
    assert (await kit.record(lost)).result["exc_type"] == "WorkerLostError"
    assert await kit.file_of(ran) == (None, Suspicion(deaths=[f"{worker.node} died while it ran"]))


async def test_a_rescuer_says_what_it_could_not_do(kit: Kit, tmp_path: Path) -> None:
    async with Watched(kit, "first-1") as worker:
        brief = worker.brief.replace(str(tmp_path).encode(), b"/dev/null").replace(b"127.0.0.1:", b"127.0.0.1:1")
        assert brief != worker.brief
        answers = await rescue(brief, bury(worker, suspect=True), {"do": "dance"})
    assert len(answers) == 2
    assert all(answer.startswith("failed: ") for answer in answers)
