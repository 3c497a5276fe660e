"""`asyncq dead replay`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncq.cli._dead._letters import AllOption, IdsArgument, TaskOption, choose, report, selection_of
from asyncq.cli._drivers import on_each, queue_names
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, split_names

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Selection


def replay(
    app: AppArgument,
    ids: IdsArgument = None,
    everything: AllOption = False,
    task: TaskOption = None,
    names: QueuesOption = None,
    json: JsonOption = False,
) -> None:
    """Send dead letters to their queue again, as they came: their attempts count anew.

    What expired meanwhile, or was cancelled, ends as REVOKED. Exits with 1 when one of the ids is not there.
    """
    import asyncio

    selection = selection_of(ids, task, everything=everything)
    queue = locate(app)
    replayed, missing = asyncio.run(_replay(queue, queue_names(queue, split_names(names)), selection))
    report("replayed", replayed, missing, json=json)


async def _replay(queue: AsyncQ, names: Sequence[str], selection: Selection) -> tuple[dict[str, int], list[str]]:
    from asyncq._operating import replay

    keys, missing = await choose(queue, names, selection)
    return await on_each(queue, names, lambda broker, name: replay(broker, name, keys[name])), missing
