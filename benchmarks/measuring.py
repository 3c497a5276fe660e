"""One contender's turn."""

from __future__ import annotations

import statistics
import time

from .client import WARM_UP
from .contenders import ENQUEUE, LATENCY, RESULTS, Contender
from .processes import Worker, cpu, run_client
from .servers import Server

#: Measure -> value, of one turn.
Figures = dict[str, float]


def take_turn(contender: Contender, server: Server, *, size: float) -> Figures:
    """Measure everything once. `size` scales the number of calls."""
    calls = max(200, int(contender.calls * size))
    figures: Figures = {}
    if ENQUEUE in contender.measures:
        for what in ("singles", "batch"):
            server.clear(contender.queues)
            before = cpu(server.pid)
            sent = run_client(contender, server, what, calls, results=False)
            figures[f"enqueue {what}, calls/s"] = calls / sent["seconds"]
            figures[f"enqueue {what}, client µs/call"] = sent["cpu"] / calls * 1e6
            figures[f"enqueue {what}, server µs/call"] = (cpu(server.pid) - before) / (WARM_UP + calls) * 1e6
    for results in (False, True) if RESULTS in contender.measures else (False,):
        kind = "stored" if results else "ignored"
        server.clear(contender.queues)
        run_client(contender, server, "fill", calls, results=results)
        with Worker(contender, server, results=results) as worker:
            for name, value in _drain(worker, server, calls).items():
                figures[f"drain, results {kind}, {name}"] = value
            if results and LATENCY in contender.measures:
                times = run_client(contender, server, "round-trips", max(100, int(300 * size)), results=True)["times"]
                figures["round trip p50, ms"] = statistics.median(times) * 1e3
                figures["round trip p95, ms"] = statistics.quantiles(times, n=20)[-1] * 1e3
    return figures


def _drain(worker: Worker, server: Server, calls: int) -> Figures:
    begun = worker.await_mark("begin")
    worker_before, server_before, looked = worker.cpu(), cpu(server.pid), time.perf_counter()
    ended = worker.await_mark("end")
    worker_cpu, server_cpu = worker.cpu() - worker_before, cpu(server.pid) - server_before
    # What was drained before the first look is not in these; the marks themselves are exact.
    share = (time.perf_counter() - looked) / (ended - begun)
    return {
        "tasks/s": calls / (ended - begun),
        "worker µs/task": worker_cpu / calls / share * 1e6,
        "server µs/task": server_cpu / calls / share * 1e6,
        "worker MiB": worker.memory(),
    }
