"""`asyncq dead drop`."""

from __future__ import annotations

from asyncq.cli._asking import ask
from asyncq.cli._dead._letters import AllOption, IdsArgument, TaskOption, choose, report, selection_of
from asyncq.cli._drivers import on_each, queue_names
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, YesOption, split_names
from asyncq.cli._output import counted_by_queue


def drop(
    app: AppArgument,
    ids: IdsArgument = None,
    everything: AllOption = False,
    task: TaskOption = None,
    names: QueuesOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Delete dead letters. There is no way back.

    Exits with 1 when one of the ids is not there.
    """
    import asyncio

    from asyncq._operating import drop_letters

    selection = selection_of(ids, task, everything=everything)
    queue = locate(app)
    keys, missing = asyncio.run(choose(queue, queue_names(queue, split_names(names)), selection))
    counts = {name: len(found) for name, found in keys.items() if found}
    if counts and not yes:
        ask(f"Delete {counted_by_queue(counts, 'dead letter')}?")
    dropped = asyncio.run(on_each(queue, keys, lambda broker, name: drop_letters(broker, name, keys[name])))
    report("dropped", dropped, missing, json=json)
