"""A step of a chain that comes again when it has succeeded sends nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from asyncq import AsyncResult, chain
from asyncq.driver import StoredResult
from asyncq.protocol import ResultRecord, encode_result
from suspects.kit import Kit
from waiting import until

pytestmark = pytest.mark.slow


async def send_chain(kit: Kit, *, state: str) -> AsyncResult[Any]:
    """Its first step comes again, and its record says what it had come to."""
    step = kit.signature("innocent", immutable=True)
    last = await chain(step, step).send()
    first = last.parent
    assert first is not None
    await kit.deliver_in_vain(1)
    record = encode_result(ResultRecord(task_id=first.task_id, status=state))
    await kit.backend.store([StoredResult(task_id=first.task_id, record=record, status=state, expires=60)])
    return last


async def test_a_step_that_has_succeeded_is_not_run_again(kit: Kit) -> None:
    """Its next step was sent before its success was stored."""
    last = await send_chain(kit, state="SUCCESS")
    async with kit.worker():
        await until(kit.is_settled)
    assert kit.ledger.count("START") == 0
    assert await last.status() == "PENDING"


async def test_a_step_that_had_only_begun_runs_again(kit: Kit) -> None:
    last = await send_chain(kit, state="STARTED")
    async with kit.worker():
        assert (await kit.record(last)).status == "SUCCESS"
        await until(kit.is_settled)
    assert kit.ledger.count("START") == 2
