"""`asyncq purge`: empty a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncq.cli._asking import ask
from asyncq.cli._drivers import on_each, queue_names
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, YesOption, split_names
from asyncq.cli._output import answer, as_json, counted, counted_by_queue, say

if TYPE_CHECKING:
    from asyncq.driver import Broker


def purge(
    app: AppArgument,
    names: QueuesOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete every message that waits in the app's queues. What runs, is parked or is dead stays.

    There is no way back.
    """
    import asyncio

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    if not yes:
        counts = asyncio.run(on_each(queue, chosen, _count))
        ask(f"Delete {counted_by_queue(counts, 'message')}?")
    purged = asyncio.run(on_each(queue, chosen, lambda broker, name: broker.purge(name)))
    if json:
        answer(as_json({"purged": purged}))
    else:
        say(", ".join(f"{counted(count, 'message')} deleted from {name}" for name, count in purged.items()))


async def _count(broker: Broker, name: str) -> int:
    return (await broker.depth(name)).ready
