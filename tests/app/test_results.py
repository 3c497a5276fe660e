"""What an AsyncResult tells, of tasks that asyncq ran and of records that others wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError, Context, RemoteTaskError, ResultTimeout
from asyncq.driver import StoredResult
from asyncq.errors import TaskRevokedError


class ShopError(Exception):
    pass


class UndeclaredError(Exception):
    pass


@pytest.fixture
async def queue() -> AsyncIterator[AsyncQ]:
    queue = AsyncQ("shop", broker="memory://", exceptions=[ShopError])
    async with queue:
        yield queue


async def store(queue: AsyncQ, task_id: str, status: str, result: Any = None, **fields: Any) -> None:
    """Write a record as any program may have."""
    record = {"status": status, "result": result, "traceback": None, "children": [], "task_id": task_id} | fields
    backend = await queue._clients.current().backend()
    await backend.store([StoredResult(task_id=task_id, record=json.dumps(record).encode(), status=status)])


async def test_a_value(queue: AsyncQ) -> None:
    await store(queue, "a", "SUCCESS", {"n": 1})
    result = queue.result("a")
    assert await result.get() == {"n": 1}
    assert await result.get(timeout=1, propagate=False) == {"n": 1}
    assert await result.status() == "SUCCESS"
    assert await result.ready()
    assert await result.info() == {"n": 1}
    assert await result.traceback() is None
    assert (result.id, result.task_id, repr(result)) == ("a", "a", "<AsyncResult a>")


async def test_nothing_is_known(queue: AsyncQ) -> None:
    result = queue.result("nobody")
    assert await result.status() == "PENDING"
    assert not await result.ready()
    assert await result.info() is None
    with pytest.raises(ResultTimeout, match=r"task nobody has not ended within 0.05 seconds"):
        await result.get(timeout=0.05)
    with pytest.raises(TimeoutError):
        await result.get(0.01)


async def test_forgetting(queue: AsyncQ) -> None:
    await store(queue, "a", "SUCCESS", 1)
    result = queue.result("a")
    await result.forget()
    assert await result.status() == "PENDING"


FAILED = {"exc_type": "ShopError", "exc_message": ["no stock", 3], "exc_module": __name__}


async def test_a_failure_is_raised_as_what_it_was(queue: AsyncQ) -> None:
    await store(queue, "a", "FAILURE", FAILED, traceback="Traceback: here")
    result = queue.result("a")
    with pytest.raises(ShopError) as caught:
        await result.get()
    assert caught.value.args == ("no stock", 3)
    assert "Traceback: here" in caught.value.__notes__[0]
    returned = await result.get(propagate=False)
    assert isinstance(returned, ShopError)
    assert await result.traceback() == "Traceback: here"


async def test_a_class_that_the_app_did_not_declare(queue: AsyncQ) -> None:
    await store(queue, "a", "FAILURE", {"exc_type": "UndeclaredError", "exc_message": ["x"], "exc_module": __name__})
    with pytest.raises(RemoteTaskError, match="UndeclaredError: x"):
        await queue.result("a").get()


async def test_a_revoked_task(queue: AsyncQ) -> None:
    described = {"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"}
    await store(queue, "a", "REVOKED", described)
    with pytest.raises(TaskRevokedError, match="expired"):
        await queue.result("a").get()


async def test_a_running_task_that_is_revoked_ends_as_it_ends(queue: AsyncQ) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    @queue.task
    async def holds() -> int:
        running.set()
        await release.wait()
        return 7

    async with queue, queue.worker():
        result = await holds.send()
        await running.wait()
        await result.revoke()
        assert await result.status() == "PENDING"
        release.set()
        assert await result.get(timeout=5) == 7


async def test_a_queued_task_that_is_revoked_ends_when_a_worker_meets_it(queue: AsyncQ) -> None:
    @queue.task
    async def never() -> None: ...

    async with queue:
        result = await never.send()
        await result.revoke()
        assert await result.status() == "PENDING"
        async with queue.worker():
            with pytest.raises(TaskRevokedError, match="revoked"):
                await result.get(timeout=5)


@pytest.mark.parametrize(
    ("status", "terminate", "after"),
    [
        ("PENDING", True, "REVOKED"),
        ("RETRY", False, "RETRY"),
        ("RETRY", True, "REVOKED"),
        ("STARTED", True, "STARTED"),
        ("PROGRESS", False, "PROGRESS"),
        ("FAILURE", True, "FAILURE"),
    ],
)
async def test_who_waits_is_told_at_once_where_no_worker_will_say_otherwise(
    queue: AsyncQ, status: str, terminate: bool, after: str
) -> None:
    async with queue:
        if status != "PENDING":
            await store(queue, "a", status)
        result = queue.result("a")
        await result.revoke(terminate=terminate)
        assert await result.status() == after


@pytest.mark.parametrize("foreign", [None, {}, "boom", ["boom"], 5])
async def test_a_failure_of_another_programs_that_names_no_exception(queue: AsyncQ, foreign: Any) -> None:
    await store(queue, "a", "FAILURE", foreign, traceback={}, date_done="2026-11-21T13:27:33.361Z")
    result = queue.result("a")
    with pytest.raises(RemoteTaskError):
        await result.get()
    assert await result.traceback() is None


async def test_a_success_of_another_programs_whose_traceback_is_its_value(queue: AsyncQ) -> None:
    await store(queue, "a", "SUCCESS", 3, traceback=3)
    assert await queue.result("a").get() == 3
    assert await queue.result("a").traceback() is None


async def test_a_retry_without_a_reason_is_not_final(queue: AsyncQ) -> None:
    await store(queue, "a", "RETRY", None)
    result = queue.result("a")
    assert await result.info() is None
    assert not await result.ready()
    await store(queue, "a", "RETRY", {"exc_type": "OSError", "exc_message": ["x"], "exc_module": "builtins"})
    assert isinstance(await result.info(), OSError)


async def test_an_exception_as_a_value_is_no_failure(queue: AsyncQ) -> None:
    await store(queue, "a", "SUCCESS", FAILED)
    assert await queue.result("a").get() == FAILED


# -- waiting -------------------------------------------------------------------------------------------------


async def test_get_waits_past_states_that_are_not_final(queue: AsyncQ) -> None:
    waiting = asyncio.create_task(queue.result("a").get(timeout=10))
    for status, value in (("STARTED", {"pid": 1}), ("PROGRESS", 50), ("REJECTED", None), ("SUCCESS", 7)):
        await asyncio.sleep(0)
        assert not waiting.done()
        await store(queue, "a", status, value)
    assert await waiting == 7


async def test_many_wait_for_one(queue: AsyncQ) -> None:
    waiting = [asyncio.create_task(queue.result("a").get(timeout=10)) for _ in range(20)]
    await asyncio.sleep(0)
    await store(queue, "a", "SUCCESS", 7)
    assert await asyncio.gather(*waiting) == [7] * 20


async def test_a_wait_that_is_cancelled_leaves_nothing(queue: AsyncQ) -> None:
    waiting = asyncio.create_task(queue.result("a").get())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store(queue, "a", "SUCCESS", 7)
    assert await queue.result("a").get(timeout=10) == 7


async def test_each_state_until_the_final_one(queue: AsyncQ) -> None:
    @queue.task(track_started=True)
    async def work(ctx: Context, fail: bool) -> str:
        await ctx.progress({"done": 1})
        await seen.wait()
        if fail:
            raise ShopError("late")
        return "done"

    async with queue.worker():
        for fail in (False, True):
            seen = asyncio.Event()
            states: list[tuple[str, Any]] = []
            async for state in await work.options().send(fail):
                states.append((state.status, state.info))
                if state.status == "PROGRESS":
                    seen.set()
            assert ("PROGRESS", {"done": 1}) in states
            status, info = states[-1]
            assert status == ("FAILURE" if fail else "SUCCESS")
            assert (info == "done") if not fail else isinstance(info, ShopError)
            assert [status for status, _ in states].count(status) == 1


# -- no result -----------------------------------------------------------------------------------------------


async def test_a_call_that_ignores_its_result_has_none_at_once(queue: AsyncQ) -> None:
    @queue.task(ignore_result=True)
    async def work() -> int:
        return 1

    result = await work.send()
    assert await result.get(timeout=10) is None
    kept = await work.options(ignore_result=False).send()
    with pytest.raises(ResultTimeout):
        await kept.get(timeout=0.01)


async def test_without_a_backend_asking_is_a_configuration_error() -> None:
    queue = AsyncQ("shop", broker="memory://", backend="disabled")
    async with queue:
        result = await queue.send_task("shop.add")
        for ask in (result.get, result.status, result.forget):
            with pytest.raises(ConfigurationError, match=r"backend=…\) says where to keep them"):
                await ask()
        with pytest.raises(ConfigurationError):
            async for _ in result:
                pass
