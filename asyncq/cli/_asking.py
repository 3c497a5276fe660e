"""Asks before what can't be undone."""

from __future__ import annotations

import sys

import typer

from asyncq.cli._failures import CommandError, ExitCode


def ask(question: str) -> None:
    """Go on when the answer is yes; else end the command."""
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody is there to answer: say --yes to go on without a question")
    if not typer.confirm(question, err=True):
        raise typer.Exit(ExitCode.FAILED)
