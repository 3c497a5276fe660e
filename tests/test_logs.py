"""How a log line looks."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from asyncq._logs import JsonFormatter, TextFormatter


def record(message: str, *arguments: object, exc_info: Any = None, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("asyncq.worker")
    return logger.makeRecord(logger.name, logging.INFO, "file.py", 1, message, arguments, exc_info, extra=extra)


def failure() -> Any:
    try:
        raise ValueError("spoilt")
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (12.3456, "12.35"),
        ("two words", "'two words'"),
        (7, "7"),
        ("a-b", "a-b"),
        (f"AQEB{'x' * 180}9bC=", "AQEBxxxxxxxx…xxxxxxxx9bC="),
    ],
)
def test_text_shows_the_fields_behind_the_message(value: object, text: str) -> None:
    line = TextFormatter().format(record("Task %s", "done", field=value))
    assert line.endswith(f" INFO     Task done  field={text}")


def test_text_does_not_say_twice_what_the_message_says() -> None:
    line = TextFormatter().format(record("shop.add[%s] done", "17", task="shop.add", task_id="17", queue="celery"))
    assert line.endswith("shop.add[17] done  queue=celery")


def test_text_says_which_of_several_processes_speaks() -> None:
    assert TextFormatter("2").format(record("Task %s", "done")).endswith(" INFO     [2] Task done")


def test_json_says_which_node_speaks_and_an_event_of_another_node_keeps_its_own() -> None:
    formatter = JsonFormatter("shop-2@host")
    assert json.loads(formatter.format(record("Ready")))["node"] == "shop-2@host"
    assert json.loads(formatter.format(record("Died", node="shop-1@host")))["node"] == "shop-1@host"


def test_json_is_one_object_with_the_fields_beside_the_message() -> None:
    event = json.loads(JsonFormatter().format(record("Task %s", "done", task_id="7", odd=object)))
    assert event == {
        "time": event["time"],
        "level": "info",
        "logger": "asyncq.worker",
        "message": "Task done",
        "task_id": "7",
        "odd": "<class 'object'>",
    }
    assert event["time"].endswith("+00:00")


def test_json_keeps_a_traceback_on_its_line() -> None:
    line = JsonFormatter().format(record("Task failed", exc_info=failure()))
    assert "\n" not in line
    assert "ValueError: spoilt" in json.loads(line)["exception"]


def test_a_field_cannot_disguise_the_event() -> None:
    event = json.loads(JsonFormatter().format(record("true", level="forged", time="never")))
    assert event["level"] == "info"
    assert event["time"] != "never"
