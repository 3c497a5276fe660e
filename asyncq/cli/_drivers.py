"""What commands that talk to a server directly have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import MessageReader
    from asyncq.driver import Broker


class _Driver(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


DriverT = TypeVar("DriverT", bound=_Driver)


@asynccontextmanager
async def opened(driver: DriverT) -> AsyncGenerator[DriverT]:
    """A broker or a backend that is open inside the block, and closed after it whatever happens."""
    try:
        await driver.open()
        yield driver
    finally:
        await driver.close()


async def on_each(queue: AsyncQ, names: Iterable[str], act: Callable[[Broker, str], Awaitable[int]]) -> dict[str, int]:
    """Do something to each of these queues, over one connection; how many messages it was done to, by queue."""
    async with opened(queue.make_broker()) as broker:
        return {name: await act(broker, name) for name in names}


def reader_of(queue: AsyncQ) -> MessageReader:
    """Reads messages as the app's workers do."""
    from asyncq._operating import MessageReader

    settings = queue.settings
    return MessageReader(settings.limits, {*settings.accept_content, settings.serializer})


def queue_names(queue: AsyncQ, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """The chosen queues, or those that a worker of this app serves when nobody says which."""
    return tuple(each.name for each in queue.queues(chosen))
