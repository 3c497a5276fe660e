"""asyncq sends workflows, a real Celery worker runs them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from asyncq import AsyncQ, ResultTimeout, Signature, chain, chord, group
from interop.celery_worker import CeleryWorker
from waiting import until

pytestmark = pytest.mark.interop

_declared = AsyncQ("declared", broker="memory://")


def _any(name: str) -> Any:
    """A task of the Celery worker; unannotated, so that any call of it may be written here."""

    async def task(*args: Any, **kwargs: Any) -> Any: ...

    return _declared.task(name=f"interop.{name}")(task)


add, total, fail, spawn = map(_any, ("add", "total", "fail", "spawn"))


def of(client: AsyncQ, signature: Signature[Any]) -> Signature[Any]:
    """The same, sent by this client."""
    return client.signature(signature.to_dict())


async def test_a_generator_is_sent_as_it_is_made(client: AsyncQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncq._combining._MADE_AT_ONCE", 10)

    @client.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int: ...

    @client.task(name="interop.total")
    async def total(numbers: list[int]) -> int: ...

    result = await chord((add.s(i) for i in range(50)), total.s()).send()
    assert await result.get(20) == 50 * 49 // 2
    assert result.parent is None


async def test_nothing_of_a_chord_is_left(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    result = await of(client, chord([add.s(1), add.s(2)], total.s())).send()
    assert await result.get(20) == 3
    assert result.parent is not None
    prefix = f"celery-taskset-meta-{result.parent.task_id}"
    with Redis.from_url(celery_worker.url) as redis:
        await until(lambda: set(redis.scan_iter(f"{prefix}*")) == {f"{prefix}.c".encode()})


# -- results -----------------------------------------------------------------------------------------------------


async def test_the_members_of_a_group_are_found(client: AsyncQ) -> None:
    result: Any = await of(client, group(add.s(1, 1), fail.s("builtin"), add.s(3))).send()
    values = await result.join(20, propagate=False)
    assert (values[0], type(values[1]), values[2]) == (2, ValueError, 3)
    assert await result.ready()
    assert await result.failed()
    assert await result.completed_count() == 2
    with pytest.raises(ValueError, match="boom"):
        await result.get(20)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's call
async def test_celery_finds_a_group_that_asyncq_has_saved_and_the_other_way_round(
    client: AsyncQ, celery_worker: CeleryWorker
) -> None:
    celery = Celery(broker=celery_worker.url, backend=celery_worker.url, set_as_current=False)
    result: Any = await of(client, group(add.s(1, 1) | group(add.s(1), add.s(2)), add.s(3))).send()
    await result.save()

    def restore() -> list[Any]:
        with celery:
            found = celery.GroupResult.restore(result.task_id)
            values = found.get(timeout=20)
            found.save()
            del found
            gc.collect()  # Celery's results use the connection when they go, which may be at the end of all tests
            return values

    assert await asyncio.to_thread(restore) == [[3, 4], 3]
    found = await client.restore_group(result.task_id)
    assert found is not None
    assert await found.get(20) == [[3, 4], 3]
    await found.forget()
    assert await client.restore_group(result.task_id) is None


async def test_what_a_task_has_sent_are_its_children(client: AsyncQ) -> None:
    result = await of(client, spawn.s(5)).send()
    assert await result.get(20) == 5
    (first,) = await result.children()
    assert await first.get(20) == 6
    (second,) = await first.children()
    assert await second.get(20) == 7


async def test_a_chain_behind_a_revoked_step_ends(client: AsyncQ) -> None:
    held = of(client, chain(add.s(1, 1).set(countdown=3600), add.s(1)))
    result = await held.send()
    with pytest.raises(ResultTimeout):
        await result.get(0.05)
    assert result.parent is not None
    await result.parent.revoke(terminate=True)
    with pytest.raises(Exception, match="revoked"):
        await result.get(20)
