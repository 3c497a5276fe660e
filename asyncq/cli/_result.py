"""`asyncq result`: what became of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, TimeoutOption
from asyncq.cli._states import final_state, print_state

if TYPE_CHECKING:
    from asyncq import TaskState


def result(
    app: AppArgument,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.", show_default=False)],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")] = False,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Print a task's result as JSON, or tell its state.

    PENDING means that nothing is known of the id: it waits in a queue, or its result expired, or it never was. Exits
    with 0 after success, 1 after failure, 4 when the task has not ended.
    """
    import asyncio

    queue = locate(app)

    async def read() -> TaskState:
        async with queue:
            handle = queue.result(task_id)
            return await final_state(handle, timeout) if wait else await handle.state()

    raise typer.Exit(print_state(task_id, asyncio.run(read()), json=json))
