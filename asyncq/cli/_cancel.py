"""`asyncq cancel`: tasks that nobody wants to run any more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncq.cli._drivers import opened, queue_names, reader_of
from asyncq.cli._failures import ExitCode
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, QueuesOption, split_names
from asyncq.cli._output import answer, as_json

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Withdrawal


def cancel(
    app: AppArgument,
    task_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The tasks' ids.", show_default=False)],
    terminate: Annotated[bool, typer.Option("--terminate", help="Also end those that run, where they wait.")] = False,
    names: QueuesOption = None,
    json: JsonOption = False,
) -> None:
    """Keep tasks from running: drop them where they are parked or ready, and let every worker refuse them for 30 days.

    Exits with 1 when one of them has ended already.
    """
    import asyncio

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    task_ids = list(dict.fromkeys(task_ids))
    states, withdrawn = asyncio.run(_cancel(queue, chosen, task_ids, terminate=terminate))
    ended = {task_id for task_id, state in states.items() if _has_ended(state)}
    for task_id in [] if json else task_ids:
        places = [f"{each.queue} ({each.place})" for each in withdrawn if each.task_id == task_id]
        answer(f"{task_id}: {_outcome(states[task_id], places, terminate=terminate)}")
    if json:
        answer(as_json({"cancelled": [_document(task_id, states[task_id], withdrawn) for task_id in task_ids]}))
    raise typer.Exit(ExitCode.FAILED if ended else ExitCode.OK)


async def _cancel(
    queue: AsyncQ, names: tuple[str, ...], task_ids: Sequence[str], *, terminate: bool
) -> tuple[dict[str, str | None], list[Withdrawal]]:
    """The tasks' states before, and what was dropped."""
    from asyncq._clock import SystemClock
    from asyncq._coordination import coordination_of
    from asyncq._operating import withdraw
    from asyncq._result_reader import revoked_record

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(queue)
        broker = await stack.enter_async_context(opened(queue.make_broker()))
        backend = queue.make_backend()
        if backend is not None:
            await stack.enter_async_context(opened(backend))
        states = {task_id: None if backend is None else await queue.result(task_id).status() for task_id in task_ids}
        doomed = [task_id for task_id, state in states.items() if not _has_ended(state)]
        # The revocation comes first: what escapes the search, or comes back to a queue, meets it at the worker.
        for task_id in doomed:
            await queue.result(task_id).revoke(terminate=terminate)
        withdrawn: list[Withdrawal] = []
        for name in names if doomed else ():
            withdrawn += await withdraw(broker, name, reader_of(queue), doomed, coordination_of(backend, broker))
        if backend is not None and withdrawn:
            # No worker will meet them, so nobody else tells those who wait.
            await backend.store([revoked_record(each.task_id, queue.settings, SystemClock()) for each in withdrawn])
    return states, withdrawn


def _has_ended(state: str | None) -> bool:
    """It ran to an end. What is revoked may be revoked again: a message of it may still be about."""
    return state in {"SUCCESS", "FAILURE"}


def _outcome(state: str | None, places: Sequence[str], *, terminate: bool) -> str:
    if _has_ended(state):
        return f"has already ended: {state}"
    if places:
        return f"dropped from {', '.join(places)}, and revoked"
    if state in {None, "PENDING", "RETRY", "REVOKED"}:
        return "revoked; it is in no queue: a worker may have it, or it isn't there (any more)"
    return f"revoked; {state}: a worker has it, {'and is told to end it' if terminate else 'and may end it'}"


def _document(task_id: str, state: str | None, withdrawn: Sequence[Withdrawal]) -> dict[str, Any]:  # Any: JSON's
    dropped = [{"queue": each.queue, "place": each.place} for each in withdrawn if each.task_id == task_id]
    return {"id": task_id, "state": state, "revoked": not _has_ended(state), "dropped": dropped}
