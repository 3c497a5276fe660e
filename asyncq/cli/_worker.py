"""`asyncq worker`: what it is asked for. How it runs stands in `asyncq.cli._serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from asyncq.cli._kinds import LogFormat, LogLevel, LoopKind
from asyncq.cli._options import AppArgument, QueuesOption, split_names


def worker(
    app: AppArgument,
    queues: QueuesOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Coroutine tasks at a time.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="First part of the node name `<name>@<host>`.", show_default=False),
    ] = None,
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues are empty and nothing runs.")] = False,
    shutdown_timeout: Annotated[
        float | None,
        typer.Option(
            "--shutdown-timeout",
            min=0,
            metavar="SECONDS",
            help="How long running tasks get to end after SIGTERM or Ctrl-C.",
            show_default=False,
        ),
    ] = None,
    loglevel: Annotated[LogLevel, typer.Option("--loglevel", "-l", case_sensitive=False)] = LogLevel.INFO,
    logformat: Annotated[LogFormat, typer.Option("--logformat", help="`json` is one object a line.")] = LogFormat.TEXT,
    loop: Annotated[
        LoopKind, typer.Option("--loop", help="`auto` takes uvloop where it is installed.")
    ] = LoopKind.AUTO,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C: then stop taking new ones, finish what runs, hand the rest back.

    A second signal doesn't wait for what runs. The exit code is 0 when nothing was lost.
    """
    from asyncq.cli._arguments import WorkerArguments
    from asyncq.cli._serve import serve

    serve(
        WorkerArguments(
            app=app,
            queues=split_names(queues),
            concurrency=concurrency,
            name=name,
            burst=burst,
            shutdown_timeout=shutdown_timeout,
            log_level=loglevel,
            log_format=logformat,
            loop=loop,
        )
    )
