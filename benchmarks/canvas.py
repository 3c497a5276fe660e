"""One contender's turn at workflows: client and worker at work at the same time, the worker on a core of its own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .contenders import Contender
from .measuring import Figures
from .processes import Client, Worker, cpu
from .servers import Server
from .workflows import WARM_UP, WORKFLOWS, Workflow

#: Seconds that a workflow may take.
_PATIENCE = 600.0


def take_canvas_turn(contender: Contender, server: Server, cores: Collection[int] | None, *, size: float) -> Figures:
    """Send and run every workflow once, the worker on these cores. `size` scales the number of calls."""
    server.clear(contender.queues)
    figures: Figures = {}
    with Worker(contender, server, results=True, cores=cores) as worker, Client(contender, server) as client:
        for workflow in WARM_UP:
            run(workflow, client, worker, server)
        for workflow in WORKFLOWS:
            scaled = workflow.scaled(size)
            ran = run(scaled, client, worker, server)
            seconds = ran.pop("seconds")
            alone = workflow.kind == "chain" and workflow.at_once == 1  # its tasks wait for each other
            pace = {"ms/task": seconds / scaled.tasks * 1e3} if alone else {"tasks/s": scaled.tasks / seconds}
            figures |= {f"{workflow.title}, {name}": value for name, value in (pace | ran).items()}
        figures["worker MiB"] = worker.memory()
    return figures


def run(workflow: Workflow, client: Client, worker: Worker, server: Server) -> Figures:
    """From before the first message is made until the last task has begun."""
    worker_before, server_before = worker.cpu(), cpu(server.pid)
    sent = client.send(workflow)
    ended = max(worker.await_mark(name, patience=_PATIENCE) for name in workflow.names)
    worker_cpu, server_cpu = worker.cpu() - worker_before, cpu(server.pid) - server_before
    tasks = workflow.tasks
    return {
        "seconds": ended - sent["begun"],
        "client µs/task": sent["cpu"] / tasks * 1e6,
        "worker µs/task": worker_cpu / tasks * 1e6,
        "server µs/task": server_cpu / tasks * 1e6,
    }


@contextmanager
def a_core_apart() -> Iterator[Collection[int] | None]:
    """Set a core aside for workers; this process, and what it starts meanwhile, runs on the others.

    None where there is no other, or no way to say so.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if len(cores) < 2:
        yield None
        return
    apart = {max(cores)}
    os.sched_setaffinity(0, cores - apart)
    try:
        yield apart
    finally:
        os.sched_setaffinity(0, cores)
