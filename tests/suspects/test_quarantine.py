"""A suspect in quarantine: it has all that a worker gives a task, and its death hurts nobody."""

from __future__ import annotations

import pytest

from asyncq.protocol import decode_result
from suspects.kit import Kit
from waiting import until

pytestmark = pytest.mark.slow


async def test_a_suspect_runs_in_another_process_and_is_cleared_when_it_ends(kit: Kit) -> None:
    first = await kit.send_again("innocent", deaths=["a crowd"])
    thread = await kit.send_again("innocent_in_thread", deaths=["a crowd"])
    usual = await kit.send("innocent")
    async with kit.worker() as worker:
        own = await first.get(20)
        assert own != worker.pid
        assert await thread.get(20) == own  # one process for all suspects
        assert await usual.get(20) == worker.pid
        await until(kit.is_settled)
        assert await kit.file_of(first) == (None, None)
        assert worker.stop() == 0


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
    assert [record.task_id for record in kit.ledger.entries("CLOSED")] == ["session", "pool", "pool"]
