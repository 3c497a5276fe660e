"""How long a unique task keeps others away, over hours."""

from __future__ import annotations

import asyncio

import pytest

from asyncq import AsyncQ, Context, Unique
from simulation.world import DAY, HOUR
from virtual import virtual, virtual_environment, virtual_loop

pytestmark = pytest.mark.usefixtures("seldom")


@pytest.fixture
def virtual_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps that a test makes live on its virtual time; nobody watches its loop, whose beats would fill the days."""
    monkeypatch.setattr("asyncq._app.system_environment", virtual_environment)
    monkeypatch.setattr("asyncq.worker.Worker._watch", lambda *_: None)


def shop() -> AsyncQ:
    return AsyncQ("shop", broker="memory://", backend="memory://")


@pytest.mark.usefixtures("virtual_apps")
@virtual
async def test_a_window_keeps_others_away_for_just_so_long() -> None:
    queue = shop()

    @queue.task(unique=Unique(by="user", scope=HOUR))
    async def mail(user: int, text: str) -> None: ...

    async with queue, queue.worker():
        first = await mail.send(1, "first")
        await first.get(timeout=10)
        await asyncio.sleep(HOUR - virtual_loop().time() - 0.001)
        assert (await mail.send(1, "too soon")).duplicate  # though the first one has ended
        assert not (await mail.send(2, "somebody else")).duplicate
        await asyncio.sleep(0.001)
        assert not (await mail.send(1, "in the next hour")).duplicate
        assert (await mail.send(1, "once more")).duplicate


@pytest.mark.usefixtures("virtual_apps")
@virtual
async def test_a_claim_lasts_through_hours_of_retries_and_ends_with_the_task() -> None:
    queue = shop()

    @queue.task(unique=True, max_retries=3)
    async def report(ctx: Context) -> int:
        if ctx.retries < 3:
            raise ctx.retry(countdown=20 * HOUR)
        return ctx.retries

    async with queue, queue.worker():
        first = await report.send()
        for _ in range(60):
            await asyncio.sleep(HOUR - 1)
            again = await report.send()
            assert (again.duplicate, again.task_id) == (True, first.task_id)
        assert await first.get(timeout=DAY) == 3
        await asyncio.sleep(1)  # the claim goes back after the result
        assert not (await report.send()).duplicate


@pytest.mark.usefixtures("virtual_apps")
@virtual
async def test_a_claim_outlasts_the_wait_for_an_eta() -> None:
    queue = shop()

    @queue.task(unique=True)
    async def task() -> str:
        return "ran"

    async with queue, queue.worker():
        first = await task.options(countdown=5 * DAY).send()
        await asyncio.sleep(4.9 * DAY)
        assert (await task.send()).task_id == first.task_id
        assert await first.get(timeout=DAY) == "ran"
        await asyncio.sleep(1)  # the claim goes back after the result
        assert not (await task.send()).duplicate


@pytest.mark.usefixtures("virtual_apps")
@virtual
async def test_an_idempotency_key_holds_for_a_day() -> None:
    queue = shop()

    @queue.task
    async def pay(amount: int) -> None: ...

    async with queue:
        first = await pay.options(idempotency_key="order 7").send(100)
        await asyncio.sleep(DAY - 1)
        assert (await pay.options(idempotency_key="order 7").send(100)).task_id == first.task_id
        await asyncio.sleep(1)
        assert not (await pay.options(idempotency_key="order 7").send(100)).duplicate
