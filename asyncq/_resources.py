"""What tasks need beside their arguments: pools and clients of a worker, sessions of a run.

Both are async generator functions that yield once: what comes before the `yield` opens, what comes after it closes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from asyncq._context import Context

__all__ = ["Dependency", "Lifespan", "open_lifespans"]

P = ParamSpec("P")
T = TypeVar("T")

#: Opened lifespans and what they yielded: each of its own type.
Resources: TypeAlias = "Mapping[Lifespan[Any], Any]"


class Lifespan(Generic[T]):
    """Opened when a worker starts, closed when it ends; `ctx[lifespan]` is what it yielded.

    Made by `@queue.lifespan`.
    """

    def __init__(self, function: Callable[[], AsyncIterator[T]]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"<Lifespan {self.function.__qualname__}>"


class Dependency(Generic[T]):
    """Opened by a run that uses it, closed when that run ends: `await ctx.use(dependency)`.

    Made by `@queue.dependency`.
    """

    def __init__(self, function: Callable[[Context], AsyncIterator[T]]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"<Dependency {self.function.__qualname__}>"


async def open_lifespans(stack: AsyncExitStack, lifespans: Sequence[Lifespan[Any]]) -> Resources:
    """Open them in order; `stack` closes them in reverse. Raises what they raise."""
    return {lifespan: await stack.enter_async_context(_managed(lifespan.function)()) for lifespan in lifespans}


class RunScope:
    """What one run has opened."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._opened: dict[Dependency[Any], Any] = {}
        self._opening: defaultdict[Dependency[Any], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def use(self, dependency: Dependency[T], ctx: Context) -> T:
        """Open it, once a run: a second call waits for the first. Raises what it raises; then the next call tries."""
        if dependency not in self._opened:
            async with self._opening[dependency]:
                if dependency not in self._opened:
                    manager = _managed(dependency.function)(ctx)
                    self._opened[dependency] = await self._stack.enter_async_context(manager)
        return self._opened[dependency]

    async def close(self, exc: BaseException | None) -> None:
        """Close what was opened, in reverse. It is told of the run's exception, and cannot undo it."""
        traceback = None if exc is None else exc.__traceback__
        await self._stack.__aexit__(None if exc is None else type(exc), exc, traceback)


def _managed(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    # Users write AsyncIterator or AsyncGenerator; what yields is a generator either way.
    return asynccontextmanager(cast("Callable[P, AsyncGenerator[T]]", function))
