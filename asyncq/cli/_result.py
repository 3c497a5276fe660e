"""`asyncq result`: what became of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, TimeoutOption
from asyncq.cli._result_tree import Branch, grow, print_tree
from asyncq.cli._states import exit_code, final_state, print_state

if TYPE_CHECKING:
    from asyncq import TaskState


def result(
    app: AppArgument,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.", show_default=False)],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the task has ended.")] = False,
    timeout: TimeoutOption = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Print all that belongs to it: what sent it, and what it has sent.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print a task's result as JSON, or tell its state; with --tree the states of the whole workflow.

    PENDING means that nothing is known of the id: it waits in a queue, or its result expired, or it never was. Exits
    with 0 after success, 1 after failure, 4 when the task has not ended.
    """
    import asyncio

    queue = locate(app)

    async def read() -> tuple[TaskState, Branch | None]:
        async with queue:
            handle = queue.result(task_id)
            state = await final_state(handle, timeout) if wait else await handle.state()
            return state, await grow(queue, task_id) if tree else None

    state, root = asyncio.run(read())
    code = exit_code(state) if root is not None else print_state(task_id, state, json=json)
    if root is not None:
        print_tree(root, task_id, json=json)
    raise typer.Exit(code)
