"""Revocations: of what is queued, what is parked, what runs, and what was asked while nobody was there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from asyncq._coordination import coordination_of
from asyncq._revoking import Revocation, Revocations, keep_revocation
from worker.bench import Bench, reaches


async def revoke(bench: Bench, task_id: str, *, terminate: bool = False) -> None:
    coordination = coordination_of(bench.backend, bench.broker)
    assert coordination is not None
    await keep_revocation(coordination, Revocation(task_id, terminate=terminate), new_id=bench.environment.new_id)


@pytest.fixture
def ran(bench: Bench) -> list[int]:
    ran: list[int] = []

    async def notes(number: int) -> int:
        ran.append(number)
        return number

    bench.task(notes)
    return ran


async def test_a_worker_that_was_away_honours_it(bench: Bench, ran: list[int]) -> None:
    unwanted = await bench.send("notes", 1)
    wanted = await bench.send("notes", 2)
    await revoke(bench, unwanted)
    async with bench.worker():
        assert (await bench.final(wanted)).result == 2
        record = await bench.final(unwanted)
    assert (record.status, record.result["exc_message"]) == ("REVOKED", ["revoked"])
    assert ran == [2]
    assert (await bench.depth()).ready == 0


async def test_a_parked_task_is_revoked_when_it_is_due(bench: Bench, ran: list[int]) -> None:
    async with bench.worker():
        task_id = await bench.send("notes", 1, eta=datetime.now(UTC) + timedelta(seconds=0.2))
        await bench.until(lambda depth: depth.parked == 1)
        await revoke(bench, task_id)
        assert (await bench.final(task_id)).status == "REVOKED"
    assert ran == []


async def test_what_waits_for_a_slot_is_not_started(
    bench: Bench, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncq.worker._revoker.INTERVAL", 0.01)
    running, release, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    refresh = Revocations.refresh

    async def refresh_and_tell(self: Revocations) -> bool:
        news = await refresh(self)
        if news:
            told.set()
        return news

    monkeypatch.setattr(Revocations, "refresh", refresh_and_tell)

    async def holds() -> None:
        running.set()
        await release.wait()

    bench.task(holds)
    async with asyncio.timeout(10), bench.worker(concurrency=1) as worker:
        await bench.final(await bench.send("notes", 0))  # nothing is prefetched before a rate is known
        await bench.send("holds")
        await running.wait()
        task_id = await bench.send("notes", 1)
        await reaches(lambda: worker.stats.received == 3)
        await revoke(bench, task_id)
        await told.wait()
        release.set()
        record = await bench.final(task_id)
    assert record.status == "REVOKED"
    assert ran == [0]


async def test_terminate_cancels_what_runs_and_nothing_else_does(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncq.worker._revoker.INTERVAL", 0.01)
    cleaned: list[int] = []

    async def long(number: int) -> None:
        try:
            await asyncio.sleep(0.3 if number == 1 else 3600)
        finally:
            cleaned.append(number)

    bench.task(long)
    async with bench.worker() as worker:
        gentle, hard = await bench.send("long", 1), await bench.send("long", 2)
        await reaches(lambda: worker._flow.running == 2)
        await revoke(bench, gentle)
        await revoke(bench, hard, terminate=True)
        ended = await bench.final(hard)
        assert (await bench.final(gentle)).status == "SUCCESS"
        await bench.until(lambda depth: depth.in_flight == 0)
    assert (ended.status, ended.result["exc_message"]) == ("REVOKED", ["terminated"])
    assert cleaned == [2, 1]


async def test_a_retry_of_a_revoked_task_does_not_run(bench: Bench) -> None:
    from asyncq._context import Context

    attempts: list[int] = []

    async def again(ctx: Context) -> None:
        attempts.append(ctx.retries)
        await revoke(bench, ctx.task_id)
        raise ctx.retry(countdown=0.01)

    bench.task(again)
    async with bench.worker():
        record = await bench.final(await bench.send("again"))
    assert record.status == "REVOKED"
    assert attempts == [0]


async def test_it_is_read_only_when_there_is_something_new(bench: Bench) -> None:
    coordination = coordination_of(bench.backend, bench.broker)
    assert coordination is not None
    revocations = Revocations(coordination)
    assert not await revocations.refresh()
    await revoke(bench, "a")
    await revoke(bench, "b", terminate=True)
    await revoke(bench, "b")
    assert await revocations.refresh()
    assert not await revocations.refresh()
    assert revocations.get("a") == Revocation("a")
    assert revocations.get("b") == Revocation("b", terminate=True)
    assert revocations.get("c") is None


async def test_a_slow_store_holds_nothing_up_but_the_first_batch(
    bench: Bench, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncq.worker._revoker.PATIENCE", 0.01)
    monkeypatch.setattr("asyncq.worker._revoker.INTERVAL", 0.01)
    answers, asked = asyncio.Event(), asyncio.Event()
    refresh = Revocations.refresh

    async def refresh_slowly(self: Revocations) -> bool:
        asked.set()
        await answers.wait()
        return await refresh(self)

    monkeypatch.setattr(Revocations, "refresh", refresh_slowly)
    unwanted = await bench.send("notes", 0)
    await revoke(bench, unwanted)
    async with bench.worker():
        await asked.wait()
        answers.set()
        assert (await bench.final(unwanted)).status == "REVOKED"

        answers.clear()
        for number in (1, 2, 3):
            await bench.final(await bench.send("notes", number))
        assert ran == [1, 2, 3]

        late = await bench.send("notes", 4, eta=datetime.now(UTC) + timedelta(seconds=0.3))
        await revoke(bench, late)
        answers.set()
        assert (await bench.final(late)).status == "REVOKED"
