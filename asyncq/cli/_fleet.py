"""What commands that look at workers have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from asyncq.cli._drivers import opened
from asyncq.cli._failures import CommandError

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.driver import Coordination


@asynccontextmanager
async def coordination_of_app(queue: AsyncQ) -> AsyncGenerator[Coordination]:
    """Where workers tell of themselves. Raises CommandError where they don't."""
    from asyncq._coordination import coordination_of

    async with AsyncExitStack() as stack:
        broker = queue.make_broker()
        if broker.capabilities.fanout:
            raise CommandError(
                f"workers on {broker.address} don't tell of themselves yet: those on SQS do, for lack of another way"
            )
        backend = queue.make_backend()
        if backend is not None:
            await stack.enter_async_context(opened(backend))
        coordination = coordination_of(backend, broker)
        if coordination is None:
            raise CommandError("workers tell of themselves through a DynamoDB or Redis backend, and this app has none")
        yield coordination
