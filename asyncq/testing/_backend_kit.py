"""The fixtures of the backend suite, and the few verbs that its tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import ClassVar, Protocol

import pytest

from asyncq.driver import ResultBackend, StoredResult
from asyncq.errors import BackendConnectionError
from asyncq.protocol import ResultRecord, encode_result
from asyncq.testing._kit import environment, within


class MakeBackend(Protocol):
    """Makes a further, unopened instance on the same store, as another process would."""

    def __call__(self, *, timeout: float = 10.0) -> ResultBackend: ...


class NewBackend(Protocol):
    """Makes a further instance and opens it; the suite closes it."""

    async def __call__(self, *, timeout: float = 10.0) -> ResultBackend: ...


#: Stops the server and starts it again with its data.
Restart = Callable[[], Awaitable[None]]
#: `async with freeze(): …`: the server keeps its connections and answers nobody.
Freeze = Callable[[], AbstractAsyncContextManager[None]]
#: How many tasks are being followed, as the server or, without one, the instance knows.
Subscriptions = Callable[[ResultBackend], Awaitable[int]]


class BackendFixtures:
    """What a driver's test class overrides, and what the suite makes of it."""

    #: Tasks that one watch follows; fewer for a store that is asked for each by itself.
    many: ClassVar[int] = 1000

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        raise NotImplementedError("override make_backend: asyncq.testing says how")

    @pytest.fixture
    def restart(self) -> Restart:
        pytest.skip("no `restart` fixture: the store has no server to restart")

    @pytest.fixture
    def freeze(self) -> Freeze:
        pytest.skip("no `freeze` fixture: the store has no server to freeze")

    @pytest.fixture
    def subscriptions(self) -> Subscriptions:
        pytest.skip("no `subscriptions` fixture: the driver doesn't tell what it follows")

    @pytest.fixture
    async def new_backend(self, make_backend: MakeBackend) -> AsyncIterator[NewBackend]:
        async with AsyncExitStack() as opened:

            async def new_backend(*, timeout: float = 10.0) -> ResultBackend:
                backend = make_backend(timeout=timeout)
                opened.push_async_callback(backend.close)
                await within(backend.open())
                return backend

            yield new_backend

    @pytest.fixture
    async def backend(self, new_backend: NewBackend) -> ResultBackend:
        return await new_backend()

    @pytest.fixture
    def task(self) -> str:
        """A task id that nobody else knows."""
        return environment.new_id()


def result(task_id: str, record: bytes, *, status: str = "PENDING", expires: float | None = None) -> StoredResult:
    return StoredResult(task_id=task_id, record=record, status=status, expires=expires)


def success(task_id: str, value: object = None) -> bytes:
    """A real record, where a stored SUCCESS decides: on a store shared with Celery the record is all there is."""
    return encode_result(ResultRecord(task_id=task_id, status="SUCCESS", result=value))


async def store(
    backend: ResultBackend, task_id: str, record: bytes, *, status: str = "STARTED", expires: float | None = None
) -> bool:
    (stored,) = await within(backend.store([result(task_id, record, status=status, expires=expires)]))
    return stored


async def get(backend: ResultBackend, task_id: str) -> bytes | None:
    (record,) = await within(backend.get([task_id]))
    return record


async def gone(backend: ResultBackend, task_id: str) -> None:
    """Wait until a record has expired."""

    async def poll() -> None:
        while await backend.get([task_id]) != [None]:
            await asyncio.sleep(0.05)

    await within(poll())


async def changes_until(
    changes: AsyncIterator[tuple[str, bytes]], done: Callable[[dict[str, bytes]], bool]
) -> dict[str, bytes]:
    """Follow changes until the last seen record of each task is as it should be."""
    seen: dict[str, bytes] = {}

    async def follow() -> None:
        while not done(seen):
            task_id, record = await anext(changes)
            seen[task_id] = record

    try:
        await within(follow())
    except TimeoutError:
        pytest.fail(f"not told in time; seen so far: {len(seen)} tasks, {list(seen.items())[:3]}")
    return seen


async def reconnected(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat an idempotent call until the connection is back, as a worker does."""

    async def attempts() -> None:
        while True:
            try:
                await call()
            except BackendConnectionError:
                await asyncio.sleep(0.05)
            else:
                return

    await within(attempts())
