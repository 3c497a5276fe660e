"""`asyncq send`: a task from the shell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from asyncq.cli._failures import CommandError
from asyncq.cli._locate import locate
from asyncq.cli._options import AppArgument, JsonOption, TimeoutOption
from asyncq.cli._output import answer, as_json, say
from asyncq.cli._states import final_state, print_state

if TYPE_CHECKING:
    from asyncq import AsyncQ, TaskState


def send(
    app: AppArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The task's name.", show_default=False)],
    args: Annotated[
        list[str] | None,
        typer.Argument(help="Its arguments: JSON, or else text as it stands.", show_default=False),
    ] = None,
    kwargs: Annotated[
        str, typer.Option("--kwargs", metavar="JSON", help="Its keyword arguments, as an object.")
    ] = "{}",
    queue: Annotated[
        str | None, typer.Option("--queue", help="Send it to this queue.", show_default="as the app routes it")
    ] = None,
    countdown: Annotated[
        float | None,
        typer.Option("--countdown", min=0, metavar="SECONDS", help="Run it no sooner.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and print the result.")] = False,
    timeout: TimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Send a task, and print its id; with --wait, its result.

    The task need not be one of the app's: it may live in another worker, of Celery's for instance. Before an argument
    that begins with a dash write `--`.
    """
    import asyncio

    target = locate(app)
    call = _Call(name, [_value(text) for text in args or ()], _keywords(kwargs), queue, countdown)
    if name not in target.tasks:
        say(f"the app has no task {name!r}; it is sent all the same")
    task_id, state = asyncio.run(_deliver(target, call, wait=wait, timeout=timeout))
    if state is not None:
        raise typer.Exit(print_state(task_id, state, json=json_output))
    if json_output:
        answer(as_json({"id": task_id, "task": name}))
    else:
        answer(task_id)


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    args: list[Any]  # Any: JSON's
    kwargs: dict[str, Any]
    queue: str | None
    countdown: float | None


async def _deliver(target: AsyncQ, call: _Call, *, wait: bool, timeout: float | None) -> tuple[str, TaskState | None]:
    async with target:
        result = await target.send_task(call.name, call.args, call.kwargs, queue=call.queue, countdown=call.countdown)
        if not wait:
            return result.id, None
        say(f"sent {result.id}")
        return result.id, await final_state(result, timeout)


def _value(text: str) -> Any:  # Any: JSON's
    try:
        return json.loads(text)
    except ValueError:
        return text


def _keywords(text: str) -> dict[str, Any]:  # Any: JSON's
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--kwargs is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError("""--kwargs must be a JSON object, as in --kwargs '{"name": "value"}'""")
    return cast("dict[str, Any]", value)
