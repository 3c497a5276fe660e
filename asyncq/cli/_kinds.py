"""Choices that the command line offers, and that cross to a worker's process: typer need not be imported for them."""

from __future__ import annotations

from enum import StrEnum


class LogFormat(StrEnum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LoopKind(StrEnum):
    """Whose event loop runs a worker."""

    AUTO = "auto"
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"
