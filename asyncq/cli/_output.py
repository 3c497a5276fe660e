"""Where words go: answers, which scripts read, to stdout; talk to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr)  # noqa: T201 - a command's way to talk


def answer(text: str) -> None:
    """Print what the command was asked for."""
    print(text)  # noqa: T201 - a command's way to answer


def counted(number: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def counted_by_queue(counts: Mapping[str, int], noun: str) -> str:
    """`1 message of celery and 2 messages of slow`."""
    return " and ".join(f"{counted(number, noun)} of {name}" for name, number in counts.items())


def as_json(value: object) -> str:
    """One line of JSON. Dates become ISO 8601; whatever else JSON lacks becomes its text."""
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    # Half a surrogate pair, which a stranger's message may hold, can't be printed but as an escape.
    return text if text.isprintable() else json.dumps(value, default=_plain)


def printable(text: str) -> str:
    """The text, with escapes for what a terminal would obey: a stranger's message must not steer it."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


#: Characters in a line of what a pipe or a file gets.
_WIDTH = 160


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Container[str]) -> None:
    """Print what may hold a stranger's words. The columns in `whole` are never broken, so that they can be copied."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(table)


def _plain(value: Any) -> Any:  # Any: json calls it with whatever it doesn't know
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
