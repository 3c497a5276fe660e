"""`asyncq control`: tell workers what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from asyncq.cli._cancel import cancel
from asyncq.cli._failures import CommandError, ExitCode
from asyncq.cli._fleet import coordination_of_app
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption
from asyncq.cli._output import answer, as_json

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._presence import Command

control = typer.Typer(no_args_is_help=True)

_NodesOption = Annotated[
    list[str] | None,
    typer.Option("--worker", "-w", metavar="NODE", help="This one, as `asyncq status` names it.", show_default=False),
]


@control.callback()
def _control() -> None:
    """Tell workers what to do, on brokers without broadcasts (SQS): they look for it every 25 seconds."""


@control.command()
def shutdown(app: AppArgument, nodes: _NodesOption = None, json: JsonOption = False) -> None:
    """Let workers end: they take nothing new, and let what runs come to its end within `shutdown_timeout`."""
    from asyncq._presence import Command

    _tell(app, nodes, Command(do="shutdown"), json=json)


@control.command()
def concurrency(
    app: AppArgument,
    amount: Annotated[int, typer.Argument(metavar="N", min=1, help="Tasks at a time.", show_default=False)],
    nodes: _NodesOption = None,
    json: JsonOption = False,
) -> None:
    """Let workers run another number of coroutine tasks at a time, until they end."""
    from asyncq._presence import Command

    _tell(app, nodes, Command(do="concurrency", amount=amount), json=json)


control.command(name="revoke")(cancel)


def _tell(app: str, nodes: Sequence[str] | None, command: Command, *, json: bool) -> None:
    import asyncio

    told = asyncio.run(_post(locate(app), nodes, command))
    if json:
        answer(as_json({"told": told}))
    else:
        answer(f"told {', '.join(told)}" if told else "no worker")
    raise typer.Exit(ExitCode.OK if told else ExitCode.FAILED)


async def _post(queue: AsyncQ, nodes: Sequence[str] | None, command: Command) -> list[str]:
    """Returns who is told."""
    from asyncq._clock import new_id
    from asyncq._presence import post, workers

    async with coordination_of_app(queue) as coordination:
        alive = [presence.node for presence in await workers(coordination)]
        unknown = set(nodes or ()) - set(alive)
        if unknown:
            raise CommandError(f"there is no worker {', '.join(sorted(unknown))}")
        chosen = [node for node in alive if not nodes or node in nodes]
        if chosen:
            await post(coordination, chosen, command, new_id=new_id)
        return chosen
