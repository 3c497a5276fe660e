"""`asyncq worker`: what it is asked for. How it runs stands in `asyncq.supervisor` and `asyncq.cli._serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from asyncq._cores import usable_cores
from asyncq.cli._kinds import LogFormat, LogLevel, LoopKind
from asyncq.cli._options import AppArgument, QueuesOption, split_names


def _count_processes(text: str) -> int:
    if text == "auto":
        return usable_cores()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither a number from 1 on nor `auto`.", param_hint="--processes")


def worker(
    app: AppArgument,
    queues: QueuesOption = None,
    processes: Annotated[
        str, typer.Option("--processes", "-p", metavar="N|auto", help="Worker processes; `auto` is one a core.")
    ] = "1",
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Coroutine tasks at a time, of each.", show_default=False),
    ] = None,
    max_tasks_per_child: Annotated[
        int | None,
        typer.Option(
            "--max-tasks-per-child",
            min=1,
            metavar="N",
            help="Replace a process after so many tasks.",
            show_default=False,
        ),
    ] = None,
    max_memory_per_child: Annotated[
        int | None,
        typer.Option(
            "--max-memory-per-child",
            min=1,
            metavar="KIB",
            help="Replace a process that holds more memory.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="First part of the node names `<name>-<number>@<host>`.", show_default=False),
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
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when a .py file below this folder changes: for development.")
    ] = False,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C: then stop taking new ones, finish what runs, hand the rest back.

    A second signal doesn't wait for what runs. The exit code is 0 when nothing was lost.
    """
    from asyncq.cli._arguments import WorkerArguments
    from asyncq.cli._supervise import supervise

    arguments = WorkerArguments(
        app=app,
        queues=split_names(queues),
        concurrency=concurrency,
        max_tasks_per_child=max_tasks_per_child,
        max_memory_per_child=max_memory_per_child,
        name=name,
        burst=burst,
        shutdown_timeout=shutdown_timeout,
        log_level=loglevel,
        log_format=logformat,
        loop=loop,
    )
    supervise(arguments, processes=_count_processes(processes), reload=reload)
