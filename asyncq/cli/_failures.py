"""How a command ends: its exit code, and one line that says what to do."""

from __future__ import annotations

from enum import IntEnum
from traceback import format_exception
from types import TracebackType

from asyncq.cli._output import say


class ExitCode(IntEnum):
    """What a script can rely on (docs/cli.md)."""

    OK = 0
    #: The task failed, the check found a fault, the question was answered with no.
    FAILED = 1
    #: The command line, the app or its settings are wrong: trying again won't help.
    USAGE = 2
    #: The broker or the result backend cannot be reached: trying again may help.
    UNREACHABLE = 3
    #: There is no final result yet.
    PENDING = 4
    #: Ended by Ctrl-C: 128 + SIGINT, as shells count.
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with a line for the user."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


class UserCodeError(CommandError):
    """The user's own module raised while it was imported. Its text is the user's traceback, without our frames."""

    def __init__(self, module: str, cause: BaseException) -> None:
        lines = format_exception(type(cause), cause, _skip_importing(cause.__traceback__))
        super().__init__(f"importing {module} failed:\n\n{''.join(lines).rstrip()}")


def _skip_importing(traceback: TracebackType | None) -> TracebackType | None:
    """Leave out the frames that lead to the user's code: ours, and the import system's."""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in {"asyncq", "importlib"}:
            break
        traceback = traceback.tb_next
    return traceback


def report(failure: Exception) -> ExitCode:
    """Tell the user what went wrong. A failure that has no name of ours is raised again, with its traceback."""
    code = _code_of(failure)
    say(f"asyncq: {str(failure) or type(failure).__name__}")
    return code


def _code_of(failure: Exception) -> ExitCode:
    from asyncq import errors

    match failure:
        case CommandError():
            return failure.code
        case errors.ConfigurationError() | errors.EncodeError():
            return ExitCode.USAGE
        case errors.BrokerConnectionError() | errors.BackendConnectionError():
            return ExitCode.UNREACHABLE
        case errors.ResultTimeout():
            return ExitCode.PENDING
        case errors.AsyncqError():
            return ExitCode.FAILED
        case _:
            raise failure
