"""Rate limits and bounds on what runs at once."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asyncq._argument_keys import key_maker
from asyncq._rates import parse_rate
from asyncq.errors import ConfigurationError
from asyncq.worker._rate_gate import LocalBuckets
from worker.bench import Bench, reaches


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("written", "per_second"),
    [(None, None), ("", None), ("0", None), (0, None), ("0/m", None), (10, 10), ("10", 10), ("10/s", 10), ("30/m", 0.5),
     ("3600/h", 1), ("0.5/s", 0.5)],
)  # fmt: skip
def test_rates_are_written_as_in_celery(written: str | float | None, per_second: float | None) -> None:
    assert parse_rate(written) == per_second


@pytest.mark.parametrize("written", ["x", "10/d", "-1", "1/s/s", "inf", "nan"])
def test_what_is_no_rate_is_refused(written: str) -> None:
    with pytest.raises(ConfigurationError, match="rate limit"):
        parse_rate(written)


def test_calls_line_up_a_token_each() -> None:
    clock = Hands()
    buckets = LocalBuckets(clock)
    assert [buckets.take("a", 2.0) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert buckets.take("b", 2.0) == 0.0
    clock.now += 10
    assert [buckets.take("a", 2.0) for _ in range(2)] == [0.0, 0.5]


def test_keys_are_the_same_however_an_argument_is_passed() -> None:
    def fn(user: int, what: str = "x", *, how: str = "y") -> None: ...

    by_user = key_maker("t", fn, "user", takes_context=False)
    assert by_user([1], {}) == by_user([], {"user": 1, "what": "other"})
    assert by_user([1], {}) != by_user([2], {})
    by_default = key_maker("t", fn, ["what", "how"], takes_context=False)
    assert by_default([1], {}) == by_default([2, "x"], {"how": "y"})
    by_all = key_maker("t", fn, None, takes_context=False)
    assert by_all([1, "z"], {}) == by_all([1], {"what": "z"})
    assert by_all([1], {}) != by_all([2], {})
    by_function = key_maker("t", fn, lambda user, what="x": user % 2, takes_context=False)
    assert by_function([1], {}) == by_function([3], {})
    assert by_user([1], {}) != key_maker("u", fn, "user", takes_context=False)([1], {})
    with pytest.raises(ConfigurationError, match="'t' has no parameter 'colour'"):
        key_maker("t", fn, "colour", takes_context=False)


def intervals(starts: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(starts)]


async def test_a_limited_task_starts_at_its_rate_and_others_do_not_wait(bench: Bench) -> None:
    starts: list[float] = []
    others: list[float] = []

    async def limited() -> None:
        starts.append(asyncio.get_running_loop().time())

    async def free() -> None:
        others.append(asyncio.get_running_loop().time())

    bench.task(limited, rate_limit="2/s")
    bench.task(free)
    for _ in range(3):
        await bench.send("limited")
    for _ in range(20):
        await bench.send("free")
    async with bench.worker() as worker:
        await reaches(lambda: worker.stats.succeeded == 23)
    # Turns are half a second apart; what has one begins as soon after it as the machine lets it.
    assert min(intervals(starts)) >= 0.1
    assert max(others) < starts[2]


async def test_a_turn_that_is_far_is_waited_for_at_the_broker(bench: Bench) -> None:
    ran: list[int] = []

    async def limited(number: int) -> None:
        ran.append(number)

    bench.task(limited, rate_limit="1/h")
    for number in range(5):
        await bench.send("limited", number)
    async with bench.worker() as worker:
        depth = await bench.until(lambda depth: depth.parked == 4 and depth.in_flight == 0)
        await reaches(lambda: worker.stats.succeeded == 1)
    assert depth.ready == 0
    assert ran == [0]


async def test_keys_are_limited_apart(bench: Bench) -> None:
    ran: list[str] = []

    async def limited(user: str) -> None:
        ran.append(user)

    bench.task(limited, rate_limit="1/h", limit_key="user")
    for user in ["a", "b", "a", "b", "c"]:
        await bench.send("limited", user)
    async with bench.worker() as worker:
        await bench.until(lambda depth: depth.parked == 2 and depth.in_flight == 0)
        await reaches(lambda: worker.stats.succeeded == 3)
    assert sorted(ran) == ["a", "b", "c"]


async def test_a_fleet_shares_its_rate(bench: Bench) -> None:
    ran: list[str] = []

    async def limited(number: int) -> None:
        ran.append(str(number))

    bench.task(limited, rate_limit="1/h", limit_scope="fleet")
    async with bench.worker(), bench.worker():
        for number in range(6):
            await bench.send("limited", number)
        await bench.until(lambda depth: depth.parked == 5 and depth.in_flight == 0)
    assert len(ran) == 1


async def test_a_parked_turn_is_not_asked_for_again(bench: Bench) -> None:
    starts: list[float] = []

    async def limited() -> None:
        starts.append(asyncio.get_running_loop().time())

    bench.task(limited, rate_limit=0.8, limit_scope="fleet")
    for _ in range(3):
        await bench.send("limited")
    async with bench.worker() as worker:
        await reaches(lambda: worker.stats.succeeded == 3)
    assert min(intervals(starts)) >= 1.2


async def test_a_fleets_rate_needs_somewhere_to_be_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def limited() -> None: ...

    bench.task(limited, rate_limit=1, limit_scope="fleet")

    def none(*_drivers: object) -> None: ...

    monkeypatch.setattr("asyncq.worker._parts.coordination_of", none)
    with pytest.raises(ConfigurationError, match='limit_scope="fleet"'):
        async with bench.worker():
            pass


async def test_no_more_of_a_task_run_than_may_and_others_do_not_wait(bench: Bench) -> None:
    running, most = 0, 0
    release = asyncio.Event()

    async def bounded() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    async def free() -> int:
        return 1

    bench.task(bounded, max_running=2)
    bench.task(free)
    for _ in range(12):
        await bench.send("bounded")
    free_id = await bench.send("free")
    async with bench.worker(concurrency=8) as worker:
        assert (await bench.final(free_id)).result == 1
        assert running == 2
        release.set()
        await reaches(lambda: worker.stats.succeeded == 13)
    assert most == 2


async def test_limits_can_be_switched_off(bench: Bench) -> None:
    ran: list[Any] = []

    async def limited() -> None:
        ran.append(1)

    bench.task(limited, rate_limit="1/h")
    for _ in range(5):
        await bench.send("limited")
    await bench.worker(disable_rate_limits=True, burst=True).run()
    assert len(ran) == 5
