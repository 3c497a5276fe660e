"""`asyncq dead`: messages that were given up."""

from __future__ import annotations

import typer

from asyncq.cli._dead._drop import drop
from asyncq.cli._dead._list import list_dead
from asyncq.cli._dead._replay import replay
from asyncq.cli._dead._show import show

__all__ = ["dead"]

dead = typer.Typer(no_args_is_help=True)
dead.command(name="list")(list_dead)
dead.command()(show)
dead.command()(replay)
dead.command()(drop)


@dead.callback()
def _dead() -> None:
    """List, show, replay and drop dead letters: messages that nobody could run."""
