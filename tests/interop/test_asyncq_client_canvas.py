"""asyncq sends workflows, a real Celery worker runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from asyncq import AsyncQ, ChordError, GroupResult, ResultTimeout, Signature, chain, chord, group
from interop.celery_worker import CeleryWorker
from waiting import until

pytestmark = pytest.mark.interop

_declared = AsyncQ("declared", broker="memory://")


def _any(name: str) -> Any:
    """A task of the Celery worker; unannotated, so that any call of it may be written here."""

    async def task(*args: Any, **kwargs: Any) -> Any: ...

    return _declared.task(name=f"interop.{name}")(task)


add, total, echo, fail, told, spawn = map(_any, ("add", "total", "echo", "fail", "told", "spawn"))

#: A workflow, and what a Celery client gets for it.
VALUES: Mapping[str, tuple[Callable[[], Signature[Any]], Any]] = {
    "chain": (lambda: add.s(1, 2) | add.s(3) | add.s(4), 10),
    "chain of one": (lambda: chain(add.s(1, 2)), 3),
    "long chain": (lambda: chain(add.s(0, 0), *[add.s(1) for _ in range(40)]), 40),
    "immutable step": (lambda: add.s(1, 2) | add.si(3, 4), 7),
    "chain with a group at its end": (lambda: add.s(1, 2) | group(add.s(3), add.s(4)), [6, 7]),
    "chain with a group of one at its end": (lambda: add.s(1, 2) | group([add.s(3)]), [6]),
    "group": (lambda: group(add.s(i, i) for i in range(5)), [0, 2, 4, 6, 8]),
    "group of chains": (lambda: group(add.s(1, 1) | add.s(1), add.s(2, 2) | add.s(2)), [3, 6]),
    "group of groups": (lambda: group(add.s(0, 1), group(add.s(0, 2), add.s(0, 3))), [1, 2, 3]),
    "group of chords": (lambda: group(chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(3, 3)), [6, 6]),
    "group with arguments to come": (lambda: add.s(1, 1) | group(add.s(1), echo.s()), [3, [[2], {}]]),
    "chord": (lambda: chord([add.s(i, i) for i in range(10)], total.s()), 90),
    "chord of one": (lambda: group([add.s(1, 1)]) | total.s(), 2),
    "chord without a header": (lambda: chord([], total.s()), 0),
    "chord keeps its order": (lambda: chord([add.s(i) for i in range(8)], echo.s()), [[list(range(8))], {}]),
    "chord with a chain for a body": (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s() | add.s(4)), 10),
    "chord with a group for a body": (lambda: group(add.s(1), add.s(2)) | group(total.s(), total.s()), [3, 3]),
    "chord of chains": (lambda: chord([add.s(1, 1) | add.s(1), add.s(2, 2)], total.s()), 7),
    "chord of chords": (lambda: chord([chord([add.s(1, 1)], total.s()), add.s(2, 2)], total.s()), 6),
    "chord in a chain": (lambda: chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s(), add.s(10)), 17),
    "chord at the beginning of a chain": (lambda: chain(group(add.s(1, 1), add.s(2, 2)), total.s(), add.s(1)), 7),
    "two chords in a chain": (
        lambda: chain(group(add.s(1), add.s(2)), total.s(), group(add.s(1), add.s(2)), total.s()),
        9,
    ),
    "group, group, task": (lambda: group(add.s(1), add.s(2)) | group(total.s(), total.s()) | total.s(), 6),
    "chord with a nested group": (lambda: chord([add.s(0), group(add.s(2), add.s(4))], echo.s()), [[[0, 2, 4]], {}]),
    "chord with a chain that ends in a group": (
        lambda: chord([add.s(1, 1) | group(add.s(1), add.s(2)), add.s(5)], echo.s()),
        [[[[3, 4], 5]], {}],
    ),
    "map": (lambda: total.map([[1, 2], [3, 4]]), [3, 7]),
    "starmap": (lambda: add.starmap([(1, 2), (3, 4)]), [3, 7]),
    "chunks": (lambda: add.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
    "chunks, followed": (lambda: add.chunks([(1, 1), (2, 2)], 1) | echo.s(), [[[[2], [4]]], {}]),
    "map in a chain": (lambda: add.si(1, 1) | total.map([[1, 2]]) | total.s(), 3),
}


def of(client: AsyncQ, signature: Signature[Any]) -> Signature[Any]:
    """The same, sent by this client."""
    return client.signature(signature.to_dict())


@pytest.mark.parametrize("name", VALUES)
async def test_celery_runs_what_asyncq_sends(client: AsyncQ, name: str) -> None:
    build, value = VALUES[name]
    result = await of(client, build()).send()
    assert await result.get(30) == value


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


# -- links -------------------------------------------------------------------------------------------------------


async def _told(worker: CeleryWorker, value: str, note: str) -> None:
    await until(lambda: any((each.task_id, each.detail) == (value, note) for each in worker.ledger.entries("TOLD")))


async def test_links_are_followed(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    workflow = of(client, chain(add.s(20, 1), add.s(1)).link(told.s("linked")))
    assert await (await workflow.send()).get(20) == 22
    await _told(celery_worker, "22", "linked")


async def test_errbacks_are_called_for_any_step(client: AsyncQ, celery_worker: CeleryWorker) -> None:
    workflow = of(client, chain(fail.s("builtin"), add.s(1)).on_error(told.s("failed")))
    result = await workflow.send()
    assert result.parent is not None
    await _told(celery_worker, result.parent.task_id, "failed")


# -- results -----------------------------------------------------------------------------------------------------


async def test_a_chain_raises_what_a_step_of_it_raised(client: AsyncQ) -> None:
    result = await of(client, chain(add.s(1), fail.si("builtin"), add.s(1), add.s(2))).send()
    with pytest.raises(ValueError, match="boom"):
        await result.get(20)


async def test_a_chord_names_the_member_that_failed(client: AsyncQ) -> None:
    result = await of(client, chord([add.s(1), fail.s("builtin")], total.s())).send()
    assert isinstance(result.parent, GroupResult)
    culprit = result.parent.results[1].task_id
    with pytest.raises(ChordError, match=rf"Dependency {culprit} raised ValueError\('boom', 1\)"):
        await result.get(20)


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
