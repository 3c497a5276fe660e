"""A task's state, as an answer to a person or to a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncq.cli._failures import ExitCode
from asyncq.cli._output import answer, as_json, say

if TYPE_CHECKING:
    from asyncq import AsyncResult, TaskState


async def final_state(result: AsyncResult[Any], timeout: float | None) -> TaskState:  # Any: of whatever task
    """Wait for the end. Raises ResultTimeout."""
    await result.get(timeout, propagate=False)
    return await result.state()


def print_state(task_id: str, state: TaskState, *, json: bool) -> ExitCode:
    """Print the answer; return what the command exits with."""
    if json:
        answer(as_json(_document(task_id, state)))
    elif state.status == "SUCCESS":
        answer(as_json(state.info))
    elif isinstance(state.info, Exception):
        if state.traceback:
            say(state.traceback.rstrip())
        say(f"{task_id}: {state.status}, {_error_type(state.info)}: {_error_message(state.info)}")
    else:
        say(f"{task_id}: {state.status}" + ("" if state.info is None else f", {as_json(state.info)}"))
    return exit_code(state)


def exit_code(state: TaskState) -> ExitCode:
    """What a command that was asked for it exits with."""
    if not state.ready:
        return ExitCode.PENDING
    return ExitCode.OK if state.status == "SUCCESS" else ExitCode.FAILED


def error_text(error: Exception) -> str:
    """`ValueError: boom`."""
    message = _error_message(error)
    return f"{_error_type(error)}: {message}" if message else _error_type(error)


def _document(task_id: str, state: TaskState) -> dict[str, Any]:  # Any: what tasks return
    document: dict[str, Any] = {"id": task_id, "status": state.status}
    if isinstance(state.info, Exception):
        document["error"] = {"type": _error_type(state.info), "message": _error_message(state.info)}
        document["traceback"] = state.traceback
    else:
        document["result" if state.status == "SUCCESS" else "info"] = state.info
    return document


def _error_type(error: Exception) -> str:
    from asyncq.errors import RemoteTaskError

    return error.type if isinstance(error, RemoteTaskError) else type(error).__name__


def _error_message(error: Exception) -> str:
    from asyncq.errors import RemoteTaskError

    return error.message if isinstance(error, RemoteTaskError) else str(error)
