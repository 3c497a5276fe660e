"""Opening, closing, restarts, and a server that answers nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import ResultBackend
from asyncq.errors import BackendConnectionError
from asyncq.testing._backend_kit import (
    BackendFixtures,
    Freeze,
    MakeBackend,
    NewBackend,
    Restart,
    get,
    reconnected,
    result,
    store,
    success,
)
from asyncq.testing._kit import LATE, cancel_everywhere, within


class BackendLife(BackendFixtures):
    async def test_a_closed_backend_answers_no_more(self, new_backend: NewBackend, task: str) -> None:
        backend = await new_backend()
        await within(backend.close(), 2.0)
        await within(backend.close(), 2.0)

        with pytest.raises(BackendConnectionError):
            await within(backend.get([task]))
        with pytest.raises(BackendConnectionError):
            await within(backend.store([result(task, b"late")]))

    async def test_closing_ends_what_waits(self, new_backend: NewBackend, task: str) -> None:
        backend = await new_backend()

        async def follow() -> None:
            async with backend.watch([task]) as changes:
                entered.set()
                await anext(changes)

        entered = asyncio.Event()
        following = asyncio.create_task(follow())
        await within(entered.wait())

        await within(backend.close(), 2.0)

        with pytest.raises(BackendConnectionError):
            await within(following, 2.0)

    async def test_nothing_is_left_running(self, make_backend: MakeBackend, task: str) -> None:
        before = asyncio.all_tasks()
        backend = make_backend()
        await within(backend.open())
        await store(backend, task, b"1")
        async with backend.watch([task]) as changes:
            await within(anext(changes))
        await within(backend.close())

        assert asyncio.all_tasks() == before

    async def test_a_cancelled_open(self, make_backend: MakeBackend, task: str) -> None:
        """It leaves nothing behind that a close doesn't release, and can be repeated."""
        made: list[ResultBackend] = []

        def opening() -> Coroutine[Any, Any, None]:
            made.append(make_backend())
            return made[-1].open()

        async def check() -> None:
            await within(made[-1].open())
            await store(made[-1], task, b"1")
            await within(made[-1].close())

        await cancel_everywhere(opening, check)

    async def test_it_says_where_it_is(self, backend: ResultBackend) -> None:
        assert backend.address

    async def test_a_restarted_server_serves_the_same_object(
        self, restart: Restart, backend: ResultBackend, task: str
    ) -> None:
        done = success(task)
        await store(backend, task, done, status="SUCCESS")

        await restart()

        await reconnected(lambda: backend.get([task]))
        assert await get(backend, task) == done
        assert not await store(backend, task, b"again", status="FAILURE")

    async def test_no_call_hangs_on_a_frozen_server(self, freeze: Freeze, new_backend: NewBackend, task: str) -> None:
        backend = await new_backend(timeout=0.5)
        await store(backend, task, b"1")
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: backend.store([result(task, b"lost?")]),
            lambda: backend.get([task]),
            lambda: backend.forget(["no-such-task"]),
        ]

        async with freeze():
            with pytest.raises(BackendConnectionError):
                await within(backend.store([result(task, b"refused?")]), 0.5 + LATE)
            for call in calls:
                with contextlib.suppress(BackendConnectionError):
                    await within(call(), 0.5 + LATE)

        await reconnected(lambda: backend.get([task]))
        await store(backend, task, b"after")
        assert await get(backend, task) == b"after"
