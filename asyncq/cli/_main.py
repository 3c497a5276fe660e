"""The `asyncq` command: its subcommands, and the one place where failures become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from asyncq.cli._cancel import cancel
from asyncq.cli._check import check
from asyncq.cli._control import control
from asyncq.cli._dead import dead
from asyncq.cli._failures import ExitCode, report
from asyncq.cli._output import answer
from asyncq.cli._purge import purge
from asyncq.cli._queues import queues
from asyncq.cli._result import result
from asyncq.cli._scheduled import scheduled
from asyncq.cli._send import send
from asyncq.cli._status import status
from asyncq.cli._worker import worker

_cli = typer.Typer(
    name="asyncq",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_cli.command()(worker)
_cli.command()(send)
_cli.command()(result)
_cli.command()(queues)
_cli.command()(purge)
_cli.command()(cancel)
_cli.add_typer(scheduled, name="scheduled")
_cli.add_typer(dead, name="dead")
_cli.command()(status)
_cli.add_typer(control, name="control")
_cli.command()(check)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        answer(f"asyncq {version('asyncq')}")
        raise typer.Exit


@_cli.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An async-native task queue that speaks the Celery protocol.

    Every command but `worker` takes `--json` for scripts. Answers go to stdout, talk goes to stderr.
    """


def main() -> NoReturn:
    """Run the command line, and exit: 0 done, 1 failed, 2 wrong usage, 3 server unreachable, 4 no result yet."""
    try:
        _cli()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as exc:  # noqa: BLE001 - `report` raises again what has no name
        sys.exit(report(exc))
    sys.exit(ExitCode.OK)
