"""`asyncq queues`: what stands in each queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncq.cli._drivers import opened, queue_names
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, split_names
from asyncq.cli._output import answer, as_json

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.driver import QueueDepth


def queues(app: AppArgument, names: QueuesOption = None, json: JsonOption = False) -> None:
    """Show how many messages are ready, in flight, parked and dead, queue by queue.

    Ready waits for a worker; in flight is with a worker; parked waits for its time; dead was given up, and waits for
    you. A dash says that the broker can't tell.
    """
    import asyncio

    depths = asyncio.run(_depths(locate(app), split_names(names)))
    if json:
        answer(as_json({"queues": [_document(name, depth) for name, depth in depths.items()]}))
    else:
        _print_table(depths)


async def _depths(queue: AsyncQ, names: tuple[str, ...] | None) -> dict[str, QueueDepth]:
    async with opened(queue.make_broker()) as broker:
        return {name: await broker.depth(name) for name in queue_names(queue, names)}


def _document(name: str, depth: QueueDepth) -> dict[str, str | int | None]:
    return {
        "name": name,
        "ready": depth.ready,
        "in_flight": depth.in_flight,
        "parked": depth.parked,
        "dead": depth.dead,
    }


def _print_table(depths: dict[str, QueueDepth]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("queue")
    for heading in ("ready", "in flight", "parked", "dead"):
        table.add_column(heading, justify="right")
    for name, depth in depths.items():
        counts = (depth.ready, depth.in_flight, depth.parked, depth.dead)
        table.add_row(name, *("-" if count is None else str(count) for count in counts))
    Console().print(table)
