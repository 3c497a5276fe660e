"""`asyncq purge`: empty a queue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from asyncq.cli._drivers import opened, queue_names
from asyncq.cli._failures import CommandError, ExitCode
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, split_names
from asyncq.cli._output import answer, as_json, say

if TYPE_CHECKING:
    from asyncq import AsyncQ


def purge(
    app: AppArgument,
    names: QueuesOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete every message that waits in the app's queues. What runs, is parked or is dead stays.

    There is no way back.
    """
    import asyncio

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    if not yes:
        _ask(asyncio.run(_count(queue, chosen)))
    purged = asyncio.run(_purge(queue, chosen))
    if json:
        answer(as_json({"purged": purged}))
    else:
        say(", ".join(f"{count} messages deleted from {name}" for name, count in purged.items()))


def _ask(counts: dict[str, int]) -> None:
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to answer: say --yes to delete without a question")
    what = " and ".join(f"{count} messages of {name}" for name, count in counts.items())
    if not typer.confirm(f"Delete {what}?", err=True):
        raise typer.Exit(ExitCode.FAILED)


async def _count(queue: AsyncQ, names: tuple[str, ...]) -> dict[str, int]:
    async with opened(queue.make_broker()) as broker:
        return {name: (await broker.depth(name)).ready for name in names}


async def _purge(queue: AsyncQ, names: tuple[str, ...]) -> dict[str, int]:
    async with opened(queue.make_broker()) as broker:
        return {name: await broker.purge(name) for name in names}
