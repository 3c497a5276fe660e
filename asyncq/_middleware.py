"""Code around every send and every run, for what all tasks have in common: tracing, tenants, timing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from msgspec import Struct

from asyncq._context import Context

__all__ = ["Middleware", "Sending"]

# `Any` below: arguments and results of the user's tasks.

#: Goes on inwards: to the next middleware, in the end to the broker or to the task itself.
SendOn: TypeAlias = Callable[[], Awaitable[None]]
RunOn: TypeAlias = Callable[[], Awaitable[Any]]

#: All middleware around a run, as one function.
AroundRun: TypeAlias = Callable[[Context, RunOn], Awaitable[Any]]


class Sending(Struct, kw_only=True):
    """A call on its way out. Middleware may change `headers`; the rest is there to be read."""

    task: str
    task_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: Headers of the caller's own; a worker finds them in `ctx.headers`.
    headers: dict[str, Any]


class Middleware:
    """Derive from it, override what you need, and give it to `AsyncQ(middleware=[…])`; the first is the outermost.

    ::

        class Tenant(Middleware):
            async def send(self, sending: Sending, forward: SendOn) -> None:
                sending.headers["tenant"] = tenant.get()
                await forward()

            async def run(self, ctx: Context, forward: RunOn) -> Any:
                tenant.set(ctx.headers["tenant"])
                return await forward()
    """

    async def send(self, sending: Sending, forward: SendOn) -> None:  # noqa: ARG002 - for those who override it
        """Around a send. To raise instead of calling `forward` is to refuse the send."""
        await forward()

    async def run(self, ctx: Context, forward: RunOn) -> Any:  # noqa: ARG002 - for those who override it
        """Around a run. What it returns or raises is the run's outcome; `forward` returns the task's own value."""
        return await forward()


def around_run(middleware: Sequence[Middleware]) -> AroundRun | None:
    """Fold middleware into one function; None when none of it has a say about runs."""
    layers = [each for each in middleware if type(each).run is not Middleware.run]
    if not layers:
        return None

    async def run(ctx: Context, inner: RunOn) -> Any:
        for layer in reversed(layers):
            inner = partial(layer.run, ctx, inner)
        return await inner()

    return run


async def send_through(middleware: Sequence[Middleware], sending: Sending, inner: SendOn) -> None:
    """Send through all of it, outermost first."""
    for layer in reversed(middleware):
        inner = partial(layer.send, sending, inner)
    await inner()
