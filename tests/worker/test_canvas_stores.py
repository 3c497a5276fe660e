"""Canvases that an app sends and its worker runs, on each store that joins chords."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from asyncq import AsyncQ, ChordError, Context, chain, chord, group
from asyncq.protocol import TaskMessage
from servers import RedisServer
from waiting import PATIENCE

_databases = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path}/queue.sqlite"
        case _:
            server: RedisServer = request.getfixturevalue("server")
            return server.url(next(_databases))


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Any]:
    """The tasks of an app whose worker runs. Any: they are what `declare` makes of them."""
    queue = AsyncQ("shop", broker=url, backend=url, longest_chain=20)
    tasks = declare(queue)
    async with queue, queue.worker(), asyncio.timeout(PATIENCE):
        yield tasks


def declare(queue: AsyncQ) -> SimpleNamespace:
    @queue.task
    async def add(x: int, y: int) -> int:
        return x + y

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task
    async def listed(found: list[Any]) -> list[Any]:
        return found

    @queue.task(throws=(ValueError,))
    async def fail(x: int) -> int:
        raise ValueError(x)

    @queue.task
    async def twice(ctx: Context, x: int) -> int:
        raise ctx.replace(add.s(x, x))

    @queue.task
    async def grow(ctx: Context, x: int) -> int:
        await ctx.add_to_chord(add.s(x, 1000))
        return x

    told: asyncio.Queue[str] = asyncio.Queue()

    @queue.task
    async def on_error(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        await told.put(f"{request.task} {type(exc).__name__}")

    return SimpleNamespace(
        queue=queue,
        add=add,
        total=total,
        listed=listed,
        fail=fail,
        twice=twice,
        grow=grow,
        on_error=on_error,
        told=told,
    )


async def test_what_succeeds(shop: Any) -> None:
    assert await (await chain(shop.add.s(1, 2), shop.add.s(3), shop.twice.s()).send()).get() == 12
    wide = chord([shop.add.s(n, n) for n in range(40)], shop.listed.s())
    assert await (await wide.send()).get() == [2 * n for n in range(40)]
    nested = chord([chord([shop.add.s(1, 1), shop.add.s(2, 2)], shop.total.s()), shop.add.s(3, 3)], shop.listed.s())
    assert await (await nested.send()).get() == [6, 6]
    inside = chain(shop.add.s(1, 1), group(shop.add.s(10), shop.add.s(20)), shop.total.s(), shop.add.s(100))
    assert await (await inside.send()).get() == 134
    grown = await (await chord([shop.grow.s(1), shop.add.s(2, 2)], shop.listed.s()).send()).get()
    assert sorted(grown) == [1, 4, 1001]


async def test_what_fails(shop: Any) -> None:
    with pytest.raises(ChordError, match=r"raised ValueError\(7\)"):
        await (await chord([shop.add.s(1, 1), shop.fail.s(7)], shop.total.s()).send()).get()
    collected = chord([shop.add.s(1, 1), shop.fail.s(7)], shop.listed.s(), on_error="collect")
    two, failure = await (await collected.send()).get()
    assert (two, failure["exc_type"], failure["exc_message"]) == (2, "ValueError", [7])
    with pytest.raises(ValueError, match="7"):
        await (await chain(shop.fail.s(7), shop.add.s(1), shop.add.s(2)).send()).get()
    body = shop.total.s().link_error(shop.on_error.s())
    await chord([shop.fail.s(7)], body).send()
    assert (await shop.told.get()).endswith("total ChordError")


async def test_a_chain_whose_rest_is_kept_apart(shop: Any) -> None:
    steps = [shop.add.s(0, 0), *[shop.add.s(1) for _ in range(60)]]
    assert await (await chain(steps).send()).get() == 60
    with pytest.raises(ValueError, match="5"):
        await (await chain([shop.fail.s(5), *steps[1:]]).send()).get()


async def test_the_rest_of_a_chain_that_has_ended_is_not_kept_for_long(server: RedisServer) -> None:
    url = server.url(next(_databases))
    queue = AsyncQ("shop", broker=url, backend=url, longest_chain=20)
    shop = declare(queue)
    async with queue, queue.worker(), asyncio.timeout(PATIENCE):
        await (await chain([shop.add.s(0, 0), *[shop.add.s(1) for _ in range(60)]]).send()).get()
    with Redis.from_url(url) as client:
        lives = [client.ttl(key) for key in client.keys("*chain.*")]
    assert lives
    assert max(lives) <= 86400


@pytest.mark.parametrize(
    "odd",
    [{"task_id": "\ud800"}, {"task_id": "s", "group_id": "\ud800", "group_index": 0, "chord": {"task": "listed"}}],
    ids=["id", "group"],
)
async def test_a_later_step_with_a_name_that_no_store_takes_harms_nobody_else(shop: Any, odd: dict[str, Any]) -> None:
    later = [shop.add.s(1).set(task_id="later").to_dict(), {**shop.add.s(1).to_dict(), "options": odd}]
    failing = shop.queue.signature({**shop.fail.s(7).to_dict(), "options": {"chain": later}})
    with pytest.raises(ValueError, match="7"):
        await (await failing.send()).get()
    with pytest.raises(ValueError, match="7"):
        await shop.queue.result("later").get()
    assert await (await shop.add.s(1, 2).send()).get() == 3
