"""Who takes part, and with which options."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What is measured beside the drain. A contender that leaves something out has empty cells in the table.
ENQUEUE, RESULTS, LATENCY = "enqueue", "results", "latency"
_EVERYTHING = frozenset({ENQUEUE, RESULTS, LATENCY})


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
    #: The queues on the server that it uses.
    queues: tuple[str, ...]
    #: What must be known to read its figures.
    note: str


def _asyncq(name: str, level: str, measures: frozenset[str], note: str) -> Contender:
    return Contender(
        name=name,
        worker=("-m", "asyncq", "worker", "benchmarks.apps.asyncq_app:queue", "--loglevel", level, "-c", "100"),
        sender="benchmarks.apps.asyncq_app:sender",
        calls=20_000,
        measures=measures,
        queues=("celery",),
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
        queues=("celery",),
        note=note,
    )


def _taskiq(name: str, broker: str, sender: str, measures: frozenset[str], note: str) -> Contender:
    options = ("--workers", "1", "--max-async-tasks", "100", "--log-level", "WARNING")
    return Contender(
        name=name,
        worker=("-m", "taskiq", "worker", f"benchmarks.apps.{broker}", *options),
        sender=f"benchmarks.apps.{sender}",
        calls=3_000,
        measures=measures,
        queues=("taskiq", "taskiq.dead_letter"),
        note=note,
    )


def _dramatiq(name: str, program: str, threads: int, measures: frozenset[str], note: str) -> Contender:
    script = str(Path(sys.executable).with_name(program))
    return Contender(
        name=name,
        worker=(script, "benchmarks.apps.dramatiq_app", "-p", "1", "-t", str(threads)),
        sender="benchmarks.apps.dramatiq_app:sender",
        calls=3_000,
        measures=measures,
        queues=("default", "default.DQ", "default.XQ"),
        note=note,
    )


_THREADS = ("-P", "threads", "-c", "10")
_PREFORK = ("-P", "prefork", "-c", str(os.cpu_count()))
_ON_THREADS = "one process, 10 threads; acknowledges first"
_ON_PREFORK = "a parent and a child process a core; acknowledges first"
_ON_LOOP = "one process, 100 coroutines; acknowledges after the run"

#: By kind of server. The first of each is what the others are compared with.
CONTENDERS: Mapping[str, tuple[Contender, ...]] = {
    "redis": (
        _asyncq("asyncq", "warning", _EVERYTHING, _ON_LOOP),
        _celery("Celery threads", _THREADS, _EVERYTHING, _ON_THREADS),
        _celery("Celery prefork", _PREFORK, frozenset({RESULTS, LATENCY}), _ON_PREFORK),
        _taskiq(
            "taskiq list", "taskiq_redis_app:listed", "taskiq_redis_app:list_sender", _EVERYTHING,
            "one process, 100 coroutines; never acknowledges",
        ),
        _taskiq(
            "taskiq stream", "taskiq_redis_app:streamed", "taskiq_redis_app:stream_sender", _EVERYTHING, _ON_LOOP
        ),
        _asyncq("asyncq, INFO", "info", frozenset({RESULTS}), "the same, and a line in the log for every task"),
    ),
    "rabbitmq": (
        _asyncq("asyncq", "warning", frozenset({ENQUEUE}), _ON_LOOP),
        _celery("Celery threads", _THREADS, frozenset({ENQUEUE}), _ON_THREADS),
        _celery("Celery prefork", _PREFORK, frozenset(), _ON_PREFORK),
        _taskiq("taskiq", "taskiq_amqp_app:broker", "taskiq_amqp_app:sender", frozenset({ENQUEUE}), _ON_LOOP),
        _dramatiq(
            "dramatiq threads", "dramatiq", 8, frozenset({ENQUEUE}),
            "one process, 8 threads; acknowledges after the run",
        ),
        _dramatiq(
            "dramatiq gevent", "dramatiq-gevent", 100, frozenset(),
            "one process, 100 greenlets; acknowledges after the run",
        ),
        Contender(
            name="raw aiormq",
            worker=("-m", "benchmarks.apps.aiormq_raw"),
            sender="benchmarks.apps.aiormq_raw:sender",
            calls=10_000,
            measures=frozenset({ENQUEUE}),
            queues=("raw",),
            note="no tasks: messages of one byte are received and acknowledged a hundred at a time",
        ),
    ),
}  # fmt: skip

#: On Redis, with workflows. Each has one process at work.
CANVAS_CONTENDERS: Sequence[Contender] = (
    _asyncq("asyncq", "warning", _EVERYTHING, _ON_LOOP),
    _celery("Celery threads", _THREADS, _EVERYTHING, _ON_THREADS),
    _celery("Celery prefork", ("-P", "prefork", "-c", "1"), _EVERYTHING, "a parent and one child; acknowledges first"),
)


def command(contender: Contender) -> list[str]:
    return [sys.executable, *contender.worker]
