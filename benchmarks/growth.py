"""What workflows cost by their size, asyncq's alone, on Redis: `python -m benchmarks.growth`.

Each stands on a server, a worker and a client of its own, so that peaks of memory are its own as well.
"""

from __future__ import annotations

import argparse
import sys

from .canvas import a_core_apart, run
from .contenders import CANVAS_CONTENDERS
from .measuring import Figures
from .processes import Client, Worker
from .servers import running_redis
from .workflows import WARM_UP, Workflow

_ASYNCQ = CANVAS_CONTENDERS[0]


def measure(workflow: Workflow) -> Figures:
    with (
        a_core_apart() as cores,
        running_redis() as server,
        Worker(_ASYNCQ, server, results=True, cores=cores) as worker,
        Client(_ASYNCQ, server) as client,
    ):
        for each in WARM_UP:
            run(each, client, worker, server)
        sent_before = server.told("stats", "total_net_input_bytes")
        figures = run(workflow, client, worker, server)
        sent = server.told("stats", "total_net_input_bytes") - sent_before
        return figures | {
            "to Redis, KiB/task": sent / 1024 / workflow.tasks,
            "client, most MiB": client.peak,
            "worker, most MiB": worker.peak(),
            "Redis, most MiB": server.told("memory", "used_memory_peak") / 1024**2,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--chords", type=int, nargs="*", default=[10_000, 30_000, 100_000], metavar="TASKS")
    parser.add_argument("--replaced", type=int, nargs="*", default=[10_000, 30_000, 100_000], metavar="TASKS")
    parser.add_argument("--chains", type=int, nargs="*", default=[1_000, 3_000, 10_000], metavar="TASKS")
    arguments = parser.parse_args()
    workflows = [
        *(Workflow(f"chord of {size:,}", "chord", size) for size in arguments.chords),
        *(Workflow(f"chord of {size:,} that a task sends", "replaced", size) for size in arguments.replaced),
        *(Workflow(f"chain of {size:,}", "chain", size) for size in arguments.chains),
    ]
    results: dict[str, Figures] = {}
    for workflow in workflows:
        print(f"{workflow.title} …", file=sys.stderr, flush=True)
        results[workflow.title] = measure(workflow)
    names = list(next(iter(results.values()), {}))
    print(f"| | {' | '.join(names)} |\n|---{'|---:' * len(names)}|")
    for title, figures in results.items():
        cells = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in figures.values())
        print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
