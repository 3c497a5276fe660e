"""A real Celery worker with the tasks of these tests: `python -m interop.celery_program CONFIG`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready

from chaos.ledger import Ledger
from interop.failures import Catalogue, OutOfStock, Unheard, unknown_class
from waiting import Gate

_FAILURES = {
    "builtin": ValueError("boom", 1),
    "declared": OutOfStock("apples", 3),
    "undeclared": Unheard("who?"),
    "nested": Catalogue.Missing("page 3"),
    "unpicklable": unknown_class()("nowhere", 2),
}


#: Settings of a worker that runs one task at a time, and minds nobody else's business.
ONE_AT_A_TIME: dict[str, Any] = {
    "worker_pool": "solo",
    "worker_prefetch_multiplier": 1,
    "worker_enable_remote_control": False,
    "worker_redirect_stdouts": False,
    "worker_hijack_root_logger": False,
}


def add(a: int, b: int = 0) -> int:
    return a + b


def total(numbers: list[int]) -> int:
    return sum(numbers)


def spawn(self: Task, number: int) -> int:
    """Sends a chain and a group of its own."""
    (self.app.signature("interop.add", (number, 1)) | self.app.signature("interop.add", (1,))).apply_async()
    return number


def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def fail(kind: str) -> None:
    raise _FAILURES[kind]


def clock() -> float:
    return time.time()


def describe(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What Celery makes of the message's headers and properties."""
    request = self.request
    names = [
        *("id", "root_id", "parent_id", "correlation_id", "reply_to", "origin", "retries", "shadow", "ignore_result"),
        *("eta", "expires", "timelimit", "argsrepr", "kwargsrepr", "delivery_info", "headers", "hostname"),
    ]
    return {name: getattr(request, name) for name in names}


def hold(self: Task, gate: str) -> str:
    _ledger().write("HELD", self.request.id, "celery")
    Gate(gate).wait()
    return "celery"


def progress(self: Task, gate: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1, "total": 2})
    Gate(gate).wait()
    return "done"


def retry(self: Task, gate: str, times: int = 1) -> int:
    """Fails, waits for the gate in the next attempt, and returns how many retries it took."""
    if self.request.retries < times:
        raise self.retry(exc=ValueError("not yet"), countdown=0, max_retries=times)
    Gate(gate).wait()
    return self.request.retries


def delegate(self: Task, name: str, queue: str) -> str:
    """Sends a task that lives elsewhere, and returns its id."""
    return self.app.send_task(name, queue=queue).id


def record(self: Task, retries: int = 0) -> str:
    """Leaves a line in the ledger at each attempt."""
    _ledger().write("RUN", self.request.id, "celery")
    if self.request.retries < retries:
        raise self.retry(countdown=0, max_retries=retries)
    return "celery"


def hand_over(self: Task, attempts: int, countdown: float = 0) -> Any:
    """Ends its worker in each attempt but the last, so that another one makes the next."""
    request = self.request
    _ledger().write("RUN", request.id, "celery")
    if request.retries + 1 < attempts:
        os.kill(os.getpid(), signal.SIGTERM)
        raise self.retry(exc=ValueError("somebody else, please"), countdown=countdown)
    return [request.retries, request.headers, request.root_id]


def _ledger() -> Ledger:
    return Ledger(_config["ledger"])


_config: dict[str, Any] = {}


def main() -> None:
    _config.update(json.loads(sys.argv[1]))
    app = Celery("interop", broker=_config["url"], backend=_config["backend"])
    settings: dict[str, Any] = {
        "accept_content": ["json", "yaml", "msgpack"],
        "task_default_queue": _config["queue"],
        "task_track_started": True,
    }
    app.conf.update(ONE_AT_A_TIME | settings | _config["conf"])
    for fn in (add, total, echo, fail, clock):
        app.task(fn, name=f"interop.{fn.__name__}")
    for fn in (describe, hold, progress, retry, delegate, record, hand_over, spawn):
        app.task(fn, name=f"interop.{fn.__name__}", bind=True)
    serve(app, _config["queue"])


def serve(app: Celery, *queues: str, loglevel: str = "INFO") -> None:
    """Run a worker, and say when it is ready."""
    worker_ready.connect(lambda **_: os.write(1, b"ready\n"), weak=False)
    served = [f"--queues={','.join(queues)}", f"--hostname=celery-{os.getpid()}@%h"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", f"--loglevel={loglevel}", *served, *alone])


if __name__ == "__main__":
    main()
