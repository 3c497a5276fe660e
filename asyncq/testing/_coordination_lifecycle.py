"""Cancelled at any await, closed, restarted, frozen: the store stays right, and the next call gets its own answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import Coordinating, Coordination, Fact
from asyncq.testing._coordination_buckets import SLOW, take
from asyncq.testing._coordination_kit import (
    CONNECTION_ERRORS,
    LONG,
    CoordinationFixtures,
    Freeze,
    MakeDriver,
    NewDriver,
    Restart,
    get,
    put,
    reconnected,
)
from asyncq.testing._kit import LATE, cancel_everywhere, within


class CancellingCoordination(CoordinationFixtures):
    @pytest.mark.parametrize("if_absent", [False, True])
    async def test_a_cancelled_put(self, coordination: Coordination, key: str, if_absent: bool) -> None:
        """Each fact is written as a whole or not at all."""
        values = {f"{key}.a": b"a", f"{key}.b": b"b"}
        facts = [Fact(key=name, value=value, ttl=LONG) for name, value in values.items()]

        async def check() -> None:
            found = await within(coordination.get(list(values)))
            assert found[0] in {b"a", None}
            assert found[1] in {b"b", None}
            assert await within(coordination.delete(list(values))) == sum(value is not None for value in found)
            assert await within(coordination.scan(key)) == []

        await cancel_everywhere(lambda: coordination.put(facts, if_absent=if_absent), check)

    @pytest.mark.parametrize("call", ["get", "scan"])
    async def test_a_cancelled_look(self, coordination: Coordination, key: str, call: str) -> None:
        """The next call gets its own answer, not the cancelled one's."""
        await put(coordination, f"{key}.a", b"a")
        await put(coordination, f"{key}.b", b"b")
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "get": lambda: coordination.get([f"{key}.a", f"{key}.a"]),
            "scan": lambda: coordination.scan(key),
        }

        async def check() -> None:
            assert await within(coordination.get([f"{key}.b"])) == [b"b"]
            assert await within(coordination.scan(f"{key}.a")) == [(f"{key}.a", b"a")]

        await cancel_everywhere(calls[call], check)

    @pytest.mark.parametrize("if_value", [None, b"a"])
    async def test_a_cancelled_delete(self, coordination: Coordination, key: str, if_value: bytes | None) -> None:
        await put(coordination, key, b"a")

        async def check() -> None:
            found = await get(coordination, key)
            assert found in {b"a", None}
            assert await put(coordination, key, b"a", if_absent=True) is (found is None)

        await cancel_everywhere(lambda: coordination.delete([key], if_value=if_value), check)

    async def test_a_cancelled_incr(self, coordination: Coordination, key: str) -> None:
        """It has counted once, or not at all."""
        last = 0

        async def check() -> None:
            nonlocal last
            number = await within(coordination.incr(key, ttl=LONG))
            assert number - last in {1, 2}
            last = number

        await cancel_everywhere(lambda: coordination.incr(key, ttl=LONG), check)

    async def test_a_cancelled_take(self, coordination: Coordination, key: str) -> None:
        """It has reserved one token, or none."""
        last = -1

        async def check() -> None:
            nonlocal last
            number = round((await take(coordination, key, rate=SLOW)).wait * SLOW)
            assert number - last in {1, 2}
            last = number

        await cancel_everywhere(lambda: coordination.take(key, rate=SLOW), check)


class CoordinationLife(CoordinationFixtures):
    async def test_it_is_found_before_anything_is_opened(self, make_driver: MakeDriver) -> None:
        driver = make_driver()

        assert isinstance(driver, Coordinating)
        assert driver.coordination is driver.coordination

    async def test_a_closed_driver_answers_no_more(self, new_driver: NewDriver, key: str) -> None:
        driver = await new_driver()
        await put(driver.coordination, key, b"")
        await within(driver.close(), 2.0)

        for call in _calls(driver.coordination, key):
            with pytest.raises(CONNECTION_ERRORS):
                await within(call())

    async def test_a_restarted_server_serves_the_same_object(
        self, restart: Restart, coordination: Coordination, key: str
    ) -> None:
        await put(coordination, key, b"kept")
        await take(coordination, key, rate=SLOW)

        await restart()

        await reconnected(lambda: coordination.get([key]))
        assert await within(coordination.scan(key)) == [(key, b"kept")]
        assert not await put(coordination, key, b"again", if_absent=True)
        assert (await take(coordination, key, rate=SLOW)).wait > 0.0

    async def test_no_call_hangs_on_a_frozen_server(self, freeze: Freeze, new_driver: NewDriver, key: str) -> None:
        coordination = (await new_driver(timeout=0.5)).coordination
        await put(coordination, key, b"before")

        async with freeze():
            with pytest.raises(CONNECTION_ERRORS):
                await within(coordination.incr(key, ttl=LONG), 0.5 + LATE)
            for call in _calls(coordination, f"{key}.frozen"):
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await within(call(), 0.5 + LATE)

        await reconnected(lambda: coordination.get([key]))
        await put(coordination, key, b"after")
        assert await get(coordination, key) == b"after"


def _calls(coordination: Coordination, key: str) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """Every method."""
    return [
        lambda: coordination.put([Fact(key=key, value=b"", ttl=LONG)]),
        lambda: coordination.get([key]),
        lambda: coordination.delete([f"{key}.none"]),
        lambda: coordination.incr(f"{key}.count", ttl=LONG),
        lambda: coordination.take(key, rate=1.0),
        lambda: coordination.scan(key),
    ]
