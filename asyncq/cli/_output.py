"""Where words go: answers, which scripts read, to stdout; talk to stderr."""

from __future__ import annotations

import json
import sys
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


def as_json(value: object) -> str:
    """One line of JSON. Dates become ISO 8601; whatever else JSON lacks becomes its text."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:  # Any: json calls it with whatever it doesn't know
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
