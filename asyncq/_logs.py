"""Logging as a worker process sets it up: one line an event, for people or for a log collector.

The library only logs, to `logging.getLogger("asyncq…")` with its fields in `extra`; where that goes is the process's
business. A supervisor and its worker processes log alike by this module, which needs the standard library alone.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

#: Characters of a word that a line of text shows: SQS's delivery tags have hundreds.
_MOST_SHOWN = 60

#: They say each request as it is, with session tokens and messages in it, to whoever asks for DEBUG.
_TOO_FRANK = ("aiobotocore", "botocore")

#: What every record carries; whatever else it has came by `extra`.
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(
    level: str,
    format: str,  # noqa: A002 - the option's own name
    *,
    node: str | None = None,
    label: str | None = None,
) -> None:
    """Send what every logger of this process says from `level` on to stderr, as "text" or as "json".

    `node` stands in every JSON event, and the shorter `label`, where several processes write to one terminal, in every
    line of text. Call it before the user's module is imported: what that sets up for itself then has the last word.
    """
    handler = _Stderr(LogSettings(level, format, node, label))
    handler.setFormatter(JsonFormatter(node) if format == "json" else TextFormatter(label))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _TOO_FRANK:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))


class LogSettings(NamedTuple):
    """What `configure_logging` was called with, for another process that is to log alike."""

    level: str
    format: str
    node: str | None
    label: str | None

    @classmethod
    def of_this_process(cls) -> LogSettings | None:
        """None where somebody else has set logging up."""
        return next(
            (handler.settings for handler in logging.getLogger().handlers if isinstance(handler, _Stderr)), None
        )

    def apply(self) -> None:
        """Log in this process as they say."""
        configure_logging(self.level, self.format, node=self.node, label=self.label)


class _Stderr(logging.StreamHandler[TextIO]):
    def __init__(self, settings: LogSettings) -> None:
        super().__init__(sys.stderr)
        self.settings = settings


class TextFormatter(logging.Formatter):
    """`12:03:11.512 INFO     [label] The message  field=…`, without the fields that the message itself shows."""

    default_msec_format = "%s.%03d"

    def __init__(self, label: str | None = None) -> None:
        prefix = "" if label is None else f"[{label.replace('%', '%%')}] "
        super().__init__(f"%(asctime)s %(levelname)-8s {prefix}%(message)s")
        self.default_time_format = "%H:%M:%S"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        message = record.message
        shown = {name: _short(value) for name, value in _fields(record).items() if str(value) not in message}
        fields = " ".join(f"{name}={text}" for name, text in shown.items())
        return f"{line}  {fields}" if fields else line


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (UTC, ISO 8601), `level`, `logger`, `message`, `node` where there is one, the event's
    own fields, `exception`.
    """

    def __init__(self, node: str | None = None) -> None:
        super().__init__()
        self._common = {} if node is None else {"node": node}

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {  # Any: fields are whatever was logged
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= self._common | {name: value for name, value in _fields(record).items() if name not in event}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            event["stack"] = self.formatStack(record.stack_info)
        return json.dumps(event, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:  # Any: fields are whatever was logged
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    text = str(value)
    if " " in text or not text:
        return repr(text)
    return text if len(text) <= _MOST_SHOWN else f"{text[:12]}…{text[-12:]}"
