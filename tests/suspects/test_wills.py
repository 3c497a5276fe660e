"""What waits for a task that was acknowledged early is told when it is lost with its worker."""

from __future__ import annotations

from typing import Any

import pytest

from asyncq import AsyncResult, Signature, chain, chord
from asyncq._flight import Stage
from asyncq.driver import StoredResult
from asyncq.protocol import ResultRecord, decode_task, encode_result
from suspects.kit import QUEUE, Kit, Watched, bury, rescue
from waiting import until

pytestmark = pytest.mark.slow


async def lose(kit: Kit, workflow: Signature[Any], *, starts: int) -> AsyncResult[Any]:
    """Send it; kill the worker when so many of its tasks have started, and do what a rescuer does, twice."""
    result = await workflow.send()
    async with Watched(kit, "first-1") as worker:
        await until(lambda: kit.ledger.count("START") == starts)
        await until(lambda: [flight.stage for flight in worker.flights] == [Stage.ACKNOWLEDGED])
        worker.program.kill()
        command = bury(worker, suspect=False)
        assert await rescue(worker.brief, command, command) == ["ok", "ok"]
    return result


async def kept(kit: Kit) -> list[tuple[str, bytes]]:
    return await kit.coordination.scan("will.")


async def test_a_chord_is_told_and_so_are_errbacks(kit: Kit) -> None:
    lost = kit.signature("early").link_error(kit.signature("is_told"))
    body = await lose(kit, chord([lost, kit.signature("innocent")], kit.signature("innocent")), starts=2)
    header = body.parent
    assert header is not None
    async with kit.worker():
        failure = await kit.record(body)
        await until(lambda: kit.ledger.count("TOLD") == 1)
        await until(kit.is_settled)
    [lost_id] = kit.ledger.ids("TOLD")
    assert failure.result["exc_type"] == "ChordError"
    assert failure.result["exc_message"][0].startswith(f"Dependency {lost_id} raised WorkerLostError('first-1@")
    assert kit.ledger.count("START") == 2
    assert await kit.dead() == []
    assert await kept(kit) == []


async def test_the_later_steps_of_a_chain_fail(kit: Kit) -> None:
    last = await lose(
        kit, chain(kit.signature("early"), kit.signature("innocent"), kit.signature("innocent")), starts=1
    )
    async with kit.worker():
        while last is not None:
            failure = await kit.record(last)
            assert (failure.status, failure.result["exc_type"]) == ("FAILURE", "WorkerLostError")
            last = last.parent
        await until(kit.is_settled)
    assert kit.ledger.count("START") == 1


async def test_nobody_else_runs_it(kit: Kit) -> None:
    """A worker that doesn't know that a message can be lost, Celery's for example, sees one that has expired."""
    await lose(kit, chain(kit.signature("early"), kit.signature("innocent")), starts=1)
    [waiting] = await kit.broker.peek(QUEUE, "ready")
    message = decode_task(waiting.content)
    assert message.lost is not None
    assert message.expires is not None
    assert message.expires.timestamp() == 0


async def test_what_ends_leaves_nothing_to_be_told(kit: Kit) -> None:
    body = await chord([kit.signature("early", 0), kit.signature("early", 0)], kit.signature("is_told")).send()
    async with Watched(kit, "first-1"):
        await kit.record(body)
        await until(kit.is_settled)
    assert await kept(kit) == []


async def test_what_had_succeeded_is_not_told_as_lost(kit: Kit) -> None:
    """Its next step was sent before its success was stored."""
    last = await chain(kit.signature("early"), kit.signature("innocent")).send()
    async with Watched(kit, "first-1") as worker:
        await until(lambda: [flight.stage for flight in worker.flights] == [Stage.ACKNOWLEDGED])
        worker.program.kill()
        [flight] = worker.flights
        success = encode_result(ResultRecord(task_id=flight.task_id, status="SUCCESS"))
        await kit.backend.store([StoredResult(task_id=flight.task_id, record=success, status="SUCCESS", expires=60)])
        assert await rescue(worker.brief, bury(worker, suspect=False)) == ["ok"]
    assert await kit.is_settled()
    assert await last.status() == "PENDING"
    assert await kept(kit) == []
