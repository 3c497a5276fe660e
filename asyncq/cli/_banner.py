"""What a worker says of itself when it starts."""

from __future__ import annotations

import logging
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from asyncq.cli._kinds import LogFormat
from asyncq.cli._output import say

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.worker import Worker

logger = logging.getLogger(__name__)


def announce(queue: AsyncQ, worker: Worker, *, concurrency_from: str, loop: str, log_format: LogFormat) -> None:
    """Tell where it works and on what: as lines for people, or as one event in a log of JSON."""
    backend = queue.make_backend()
    broker = queue.make_broker().address
    results = "kept nowhere" if backend is None else backend.address
    queues = [each.name for each in worker.queues]
    tasks = sorted(queue.tasks)
    if log_format is LogFormat.JSON:
        event = {
            "app": queue.name,
            "node": worker.node,
            "pid": os.getpid(),
            "broker": broker,
            "results": results,
            "queues": queues,
            "tasks": tasks,
            "concurrency": worker.concurrency,
            "concurrency_from": concurrency_from,
            "loop": loop,
        }
        logger.info("asyncq %s starts", version("asyncq"), extra=event)
        return
    say(f"asyncq {version('asyncq')}, app {queue.name!r}")
    for name, text in {
        "node": f"{worker.node} (process {os.getpid()}, {loop})",
        "broker": broker,
        "results": results,
        "queues": ", ".join(queues),
        "tasks": ", ".join(tasks) or "none",
        "concurrency": f"{worker.concurrency} ({concurrency_from})",
    }.items():
        say(f"  {name:<12} {text}")
