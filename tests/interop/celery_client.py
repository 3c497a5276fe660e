"""A real Celery client that a test can await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import celery.result
from celery import Celery

from waiting import PATIENCE

T = TypeVar("T")


class CeleryClient:
    """A Celery app in a thread of its own.

    Celery keeps a backend a thread, and an AsyncResult touches its backend when it is collected: so all of them are
    made, used and dropped in that one thread, and tests know tasks by their ids.
    """

    def __init__(self, url: str, *, backend: str | None = None, **conf: Any) -> None:
        self._url = url
        self._backend = backend or url
        self._conf = conf
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celery-client")
        self._results: dict[str, celery.result.AsyncResult] = {}
        self._app: Celery | None = None

    async def __aenter__(self) -> Self:
        await self.run(lambda app: None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.run(self._close)
        self._thread.shutdown()

    async def run(self, fn: Callable[[Celery], T]) -> T:
        """Call something with the app, in its thread."""
        return await asyncio.wrap_future(self._thread.submit(lambda: fn(self._opened())))

    async def send(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> str:
        """`send_task`; returns the task's id."""

        def send(app: Celery) -> str:
            result = app.send_task(name, args, kwargs, **options)
            self._results[result.id] = result
            return result.id

        return await self.run(send)

    async def get(self, task_id: str, *, timeout: float = PATIENCE) -> Any:
        """The value; raises the task's exception as Celery makes it."""
        return await self.run(lambda app: self._result(app, task_id).get(timeout=timeout, interval=0.05))

    async def call(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send, and get."""
        return await self.get(await self.send(name, args, kwargs, **options))

    async def look(self, task_id: str, *attributes: str) -> list[Any]:
        """Attributes of the AsyncResult: `state`, `info`, `traceback`, `args`, …"""
        return await self.run(lambda app: [getattr(self._result(app, task_id), name) for name in attributes])

    async def state(self, task_id: str) -> str:
        (state,) = await self.look(task_id, "state")
        return state

    def _result(self, app: Celery, task_id: str) -> celery.result.AsyncResult:
        return self._results.setdefault(task_id, app.AsyncResult(task_id))

    def _opened(self) -> Celery:
        if self._app is None:
            self._app = Celery("client", broker=self._url, backend=self._backend, set_as_current=False)
            self._app.conf.update(self._conf)
        return self._app

    def _close(self, app: Celery) -> None:
        self._results.clear()
        backend: Any = app.backend
        backend.result_consumer.stop()
        if hasattr(backend, "client"):  # Redis
            backend.client.connection_pool.disconnect()
        app.close()
