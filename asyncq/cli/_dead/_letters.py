"""Which dead letters a command means, and what answers in JSON say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncq.cli._drivers import opened, reader_of
from asyncq.cli._failures import CommandError, ExitCode
from asyncq.cli._moments import as_iso
from asyncq.cli._output import answer, as_json, counted_by_queue, say

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Entry, Selection

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Ids of tasks, or what the list shows instead of one.", show_default=False),
]
TaskOption = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="Those of this task.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]


def selection_of(ids: Sequence[str] | None, task: str | None, *, everything: bool) -> Selection:
    """Raises CommandError unless exactly one way of choosing was chosen."""
    from asyncq._operating import Selection

    if [bool(ids), task is not None, everything].count(True) != 1:
        raise CommandError("say which: ids, or --task NAME, or --all")
    return Selection(frozenset(ids or ()), task)


async def choose(queue: AsyncQ, names: Sequence[str], selection: Selection) -> tuple[dict[str, list[str]], list[str]]:
    """The keys that a selection means, by queue; and which of its ids mean none."""
    from asyncq._operating import find

    reader = reader_of(queue)
    keys: dict[str, list[str]] = {name: [] for name in names}
    missing = set(selection.names)
    async with opened(queue.make_broker()) as broker:
        for name in names:
            async for entry in find(broker, name, "dead", reader, selection):
                keys[name].append(entry.stored.key)
                missing.difference_update(entry.names)
    return keys, sorted(missing)


def report(verb: str, counts: dict[str, int], missing: Sequence[str], *, json: bool) -> None:
    """Tell what was done, and end with 1 when something was not there."""
    if json:
        answer(as_json({verb: counts, "missing": missing}))
    else:
        say(f"{counted_by_queue(counts, 'dead letter')} {verb}")
    if missing:
        raise CommandError(f"not among the dead letters of {', '.join(counts)}: {', '.join(missing)}", ExitCode.FAILED)


def document(entry: Entry) -> dict[str, Any]:  # Any: JSON's
    """A dead letter without what it carries."""
    return {
        "id": entry.task_id,
        "key": entry.stored.key,
        "task": entry.task,
        "queue": entry.stored.queue,
        "reason": entry.reason,
        "time": as_iso(entry.died_at),
        "attempts": entry.attempts,
    }
