"""`asyncq status`: who is alive, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from asyncq.cli._failures import ExitCode
from asyncq.cli._fleet import coordination_of_app
from asyncq.cli._locate import locate
from asyncq.cli._moments import as_iso
from asyncq.cli._options import AppArgument, JsonOption
from asyncq.cli._output import answer, as_json, counted, print_table

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._presence import Presence


def status(app: AppArgument, json: JsonOption = False) -> None:
    """Show the workers that are alive, and what each of them runs since when.

    For brokers without broadcasts (SQS): workers write it into the result backend every 25 seconds. Exits with 1 when
    there is no worker.
    """
    import asyncio

    found = asyncio.run(_workers(locate(app)))
    if json:
        answer(as_json({"workers": [_document(presence) for presence in found]}))
    else:
        _print(found)
    raise typer.Exit(ExitCode.OK if found else ExitCode.FAILED)


async def _workers(queue: AsyncQ) -> list[Presence]:
    from asyncq._presence import workers

    async with coordination_of_app(queue) as coordination:
        return await workers(coordination)


def _print(found: Sequence[Presence]) -> None:
    if not found:
        answer("no worker")
        return
    print_table(
        ["worker", "pid", "since", "queues", "running", "done", "failed"],
        [
            (
                presence.node,
                str(presence.pid),
                as_iso(presence.since) or "",
                ", ".join(presence.queues),
                f"{presence.running_count} of {presence.concurrency}",
                str(presence.succeeded),
                str(presence.failed),
            )
            for presence in found
        ],
        whole={"worker", "since"},
    )
    for presence in found:
        for running in presence.running:
            answer(f"{presence.node}: {running.task}[{running.id}] since {as_iso(running.since)}")
        more = presence.running_count - len(presence.running)
        if more > 0:
            answer(f"{presence.node}: and {counted(more, 'task')} more")


def _document(presence: Presence) -> dict[str, Any]:  # Any: JSON's
    from msgspec import to_builtins

    document: dict[str, Any] = to_builtins(presence)
    return document | {"since": as_iso(presence.since), "seen": as_iso(presence.seen)}
