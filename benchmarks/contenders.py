"""Who takes part, and with which options."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

#: What is measured beside the drain. A contender that leaves something out has empty cells in the table.
ENQUEUE, LATENCY = "enqueue", "latency"
_EVERYTHING = frozenset({ENQUEUE, LATENCY})


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A library with one way of running its worker."""

    name: str
    #: The worker's command, as people start it.
    worker: tuple[str, ...]
    #: `module:function` of its client.
    sender: str
    #: Calls that its client sends and its worker drains: about a second's work.
    calls: int
    measures: frozenset[str] = _EVERYTHING
    #: What must be known to read its figures.
    note: str


def _asyncq(name: str, level: str, measures: frozenset[str], note: str) -> Contender:
    return Contender(
        name=name,
        worker=("-m", "asyncq", "worker", "benchmarks.apps.asyncq_app:queue", "--loglevel", level, "-c", "100"),
        sender="benchmarks.apps.asyncq_app:sender",
        calls=20_000,
        measures=measures,
        note=note,
    )


def _celery(name: str, pool: tuple[str, ...], measures: frozenset[str], note: str) -> Contender:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return Contender(
        name=name,
        worker=("-m", "celery", "-A", "benchmarks.apps.celery_app", "worker", "-l", "WARNING", *pool, *quiet),
        sender="benchmarks.apps.celery_app:sender",
        calls=1_000,
        measures=measures,
        note=note,
    )


def _taskiq(name: str, broker: str, sender: str, note: str) -> Contender:
    options = ("--workers", "1", "--max-async-tasks", "100", "--log-level", "WARNING")
    return Contender(
        name=name,
        worker=("-m", "taskiq", "worker", f"benchmarks.apps.taskiq_app:{broker}", *options),
        sender=f"benchmarks.apps.taskiq_app:{sender}",
        calls=3_000,
        note=note,
    )


CONTENDERS = (
    _asyncq("asyncq", "warning", _EVERYTHING, "one process, 100 coroutines; acknowledges after the run"),
    _celery(
        "Celery threads", ("-P", "threads", "-c", "10"), _EVERYTHING, "one process, 10 threads; acknowledges first"
    ),
    _celery(
        "Celery prefork",
        ("-P", "prefork", "-c", str(os.cpu_count())),
        frozenset({LATENCY}),
        "a parent and a child process a core; acknowledges first",
    ),
    _taskiq("taskiq list", "listed", "list_sender", "one process, 100 coroutines; never acknowledges"),
    _taskiq("taskiq stream", "streamed", "stream_sender", "one process, 100 coroutines; acknowledges after the run"),
    _asyncq("asyncq, INFO", "info", frozenset(), "the same, and a line in the log for every task"),
)


def command(contender: Contender) -> list[str]:
    return [sys.executable, *contender.worker]
