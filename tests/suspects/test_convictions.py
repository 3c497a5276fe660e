"""What is known to have blocked a worker is concluded, and does not run."""

from __future__ import annotations

import pytest

from asyncq.errors import TimeLimitExceeded
from suspects.kit import Kit
from waiting import until

pytestmark = pytest.mark.slow


async def test_convicts_are_concluded_unrun_whoever_receives_them(kit: Kit) -> None:
    convicts = [await kit.send("innocent") for _ in range(20)]
    free = await kit.send_again("innocent")
    for result in convicts:
        await kit.convict(result, limit=4.0)
    async with kit.worker(concurrency=3) as one, kit.worker(concurrency=3) as other:
        for result in convicts:
            with pytest.raises(TimeLimitExceeded, match="4"):
                await result.get(20)
        await free.get(20)
        await until(kit.is_settled)
        for result in convicts:
            assert await kit.file_of(result) == (None, None)
        assert (one.stop(), other.stop()) == (0, 0)
    assert kit.ledger.ids("START") == {free.id}
    assert await kit.dead() == []


async def test_a_convict_is_tried_again_where_its_task_says_so(kit: Kit) -> None:
    result = await kit.send_again("may_be_tried_again")
    await kit.convict(result)
    async with kit.worker() as worker:
        assert await result.get(20) == 1
        await until(kit.is_settled)
        assert worker.stop() == 0
    assert kit.ledger.count("START") == 1


async def test_a_convict_whose_failures_are_not_acknowledged_is_dead_lettered(kit: Kit) -> None:
    result = await kit.send_again("is_never_acknowledged_failing")
    await kit.convict(result)
    async with kit.worker() as worker:
        with pytest.raises(TimeLimitExceeded):
            await result.get(20)
        await until(kit.is_settled)
        assert await kit.file_of(result) == (None, None)
        assert worker.stop() == 0
    assert kit.ledger.count("START") == 0
    [letter] = await kit.dead()
    assert letter.reason == "it blocked its worker"
