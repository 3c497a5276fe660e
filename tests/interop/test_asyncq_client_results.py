"""asyncq waits for what a real Celery worker made of its tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncq import AsyncQ, RemoteTaskError, ResultTimeout
from asyncq.errors import NotRegistered
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from interop.failures import Catalogue, OutOfStock
from waiting import until

pytestmark = pytest.mark.interop


async def test_a_thousand_results_are_gathered(client: AsyncQ) -> None:
    @client.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int: ...

    results = await client.send_many([add.s(number, number) for number in range(1000)])
    values = await asyncio.gather(*(result.get(30) for result in results))
    assert values == [2 * number for number in range(1000)]


async def test_a_result_that_was_there_first_is_read(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    async with CeleryClient(celery_worker.url) as celery:
        task_id = await celery.send("interop.add", [1, 2])
        assert await celery.get(task_id) == 3
    result = client.result(task_id)
    assert (await result.get(10), await result.status(), await result.ready()) == (3, "SUCCESS", True)
    await result.forget()
    assert await result.status() == "PENDING"


# -- failures --------------------------------------------------------------------------------------------------


async def test_a_builtin_exception_is_raised_again(client: AsyncQ) -> None:
    result = await client.send_task("interop.fail", ["builtin"])
    with pytest.raises(ValueError, match="boom") as raised:
        await result.get(10)
    assert type(raised.value) is ValueError
    assert raised.value.args == ("boom", 1)
    [note] = raised.value.__notes__
    assert "raise _FAILURES[kind]" in note
    assert await result.status() == "FAILURE"
    assert "raise _FAILURES[kind]" in (await result.traceback() or "")
    assert isinstance(await result.get(10, propagate=False), ValueError)


async def test_declared_classes_are_raised_again(client: AsyncQ) -> None:
    with pytest.raises(OutOfStock) as raised:
        await (await client.send_task("interop.fail", ["declared"])).get(10)
    assert (raised.value.item, raised.value.left) == ("apples", 3)
    with pytest.raises(Catalogue.Missing, match="page 3"):
        await (await client.send_task("interop.fail", ["nested"])).get(10)


@pytest.mark.parametrize(
    ("kind", "type_name", "text"),
    [
        ("undeclared", "interop.failures.Unheard", "who?"),
        ("unpicklable", "warehouse.failures.Strange", "('nowhere', 2)"),
    ],
)
async def test_other_classes_become_a_remote_error(client: AsyncQ, kind: str, type_name: str, text: str) -> None:
    """Though `Unheard` could be imported: a result never decides what is looked up."""
    with pytest.raises(RemoteTaskError) as raised:
        await (await client.send_task("interop.fail", [kind])).get(10)
    assert (raised.value.type, raised.value.message) == (type_name, text)
    assert "raise _FAILURES[kind]" in (raised.value.traceback or "")


async def test_celerys_not_registered_is_ours(client: AsyncQ) -> None:
    with pytest.raises(NotRegistered, match=r"shop\.unknown"):
        await (await client.send_task("shop.unknown")).get(10)


async def test_arguments_that_do_not_fit_are_celerys_type_error(client: AsyncQ) -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        await (await client.send_task("interop.add", [1], {"c": 2})).get(10)


# -- states ----------------------------------------------------------------------------------------------------


async def test_started_is_seen(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    gate = celery_worker.gate("started")
    result = await client.send_task("interop.hold", [str(gate.path)])
    changes = aiter(result)
    first = await anext(changes)
    assert (first.status, first.ready) == ("STARTED", False)
    assert first.info["pid"] == celery_worker.pid
    with pytest.raises(ResultTimeout):
        await result.get(0.05)
    gate.open()
    last = [state async for state in changes][-1]
    assert (last.status, last.info) == ("SUCCESS", "celery")


async def test_progress_is_followed(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    gate = celery_worker.gate("progress")
    result = await client.send_task("interop.progress", [str(gate.path)])
    seen: list[tuple[str, Any]] = []
    async for state in result:
        seen.append((state.status, state.info))
        if state.status == "PROGRESS":
            assert await result.info() == {"done": 1, "total": 2}
            gate.open()
    assert seen[-2:] == [("PROGRESS", {"done": 1, "total": 2}), ("SUCCESS", "done")]


async def test_a_retry_is_seen_with_its_reason(other_client: AsyncQ, other_worker: CeleryWorker) -> None:
    """By a worker that stores no STARTED, which the second attempt would put in its place."""
    gate = other_worker.gate("retry")
    result = await other_client.send_task("interop.retry", [str(gate.path)])
    await until(lambda: _is_retry(result))
    reason = await result.info()
    assert isinstance(reason, ValueError)
    assert reason.args == ("not yet",)
    gate.open()
    assert await result.get(10) == 1


async def _is_retry(result: Any) -> bool:
    return await result.status() == "RETRY"
