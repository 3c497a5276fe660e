"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

#: The first argument of every command.
AppArgument = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        help="Where the AsyncQ is: `module:name` or `path/to/file.py:name`; `:name` may go where there is only one.",
        show_default=False,
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead, for scripts.")]

QueuesOption = Annotated[
    str | None,
    typer.Option("--queues", "-Q", metavar="A,B", help="These queues, and no others.", show_default=False),
]

#: Names of messages; see `asyncq._operating.Selection`.
NamesArgument = Annotated[
    list[str],
    typer.Argument(metavar="ID", help="Ids of tasks, or what the list shows instead of one.", show_default=False),
]

LimitOption = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show no more than this.")]

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]

TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than this.", show_default=False),
]


def split_names(names: str | None) -> tuple[str, ...] | None:
    """`"a, b"` as `("a", "b")`; None as it is."""
    if names is None:
        return None
    return tuple(name.strip() for name in names.split(",") if name.strip())
