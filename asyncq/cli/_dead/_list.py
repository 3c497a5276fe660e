"""`asyncq dead list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncq.cli._dead._letters import document
from asyncq.cli._drivers import queue_names
from asyncq.cli._entries import first_entries, tell_the_rest
from asyncq.cli._locate import locate
from asyncq.cli._moments import describe
from asyncq.cli._options import AppArgument, JsonOption, LimitOption, QueuesOption, split_names
from asyncq.cli._output import answer, as_json, print_table

if TYPE_CHECKING:
    from asyncq._operating import Entry


def list_dead(app: AppArgument, names: QueuesOption = None, limit: LimitOption = 100, json: JsonOption = False) -> None:
    """Show the dead letters of each queue, and why they are there."""
    import asyncio

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    entries, total = asyncio.run(first_entries(queue, chosen, "dead", limit))
    if json:
        answer(as_json({"dead": [document(entry) for entry in entries], "total": total}))
        return
    if entries:
        _print(entries)
    tell_the_rest(len(entries), total, f"no dead letters in {', '.join(chosen)}")


def _print(entries: Sequence[Entry]) -> None:
    from asyncq._clock import SystemClock

    now = SystemClock().wall()
    print_table(
        ("id", "task", "queue", "died", "attempts", "reason"),
        (
            (
                entry.names[0],
                entry.task or "?",
                entry.stored.queue,
                describe(entry.died_at, now),
                "?" if entry.attempts is None else str(entry.attempts),
                entry.reason or "?",
            )
            for entry in entries
        ),
        whole={"id", "died"},
    )
