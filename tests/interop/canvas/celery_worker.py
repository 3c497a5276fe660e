"""A real Celery worker for canvases: `python -m interop.canvas.celery_worker CONFIG`."""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import Celery, Task
from celery._state import get_current_worker_task
from celery.exceptions import Ignore
from celery.signals import task_prerun
from redis import Redis

from interop.canvas.routing import InTurns
from interop.canvas.tasks import TASKS, Notes, errbacks
from interop.celery_program import ONE_AT_A_TIME, serve

# Celery has no types. `Any` below: arguments and results of tasks.


def bound(self: Task, *args: Any) -> None:
    """An errback of the old style, whatever it takes."""


def retry(self: Task, *args: Any) -> list[Any]:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return [*args]


def ignore(self: Task, *args: Any) -> None:
    raise Ignore


def replace(self: Task, document: dict[str, Any]) -> Any:
    return self.replace(self.app.signature(document))


def grow(self: Task, document: dict[str, Any]) -> int:
    self.add_to_chord(self.app.signature(document))
    return 1


def spawn(self: Task, document: dict[str, Any]) -> None:
    self.app.signature(document).apply_async()


def main() -> None:
    config = json.loads(sys.argv[1])
    notes = Notes(Redis.from_url(config["backend"]), "celery")
    app = Celery("interop", broker=config["broker"], backend=config["backend"])
    mixed = InTurns(config["mixed"])

    def route(name: str, args: object, kwargs: object, options: object, task: object = None) -> Any:
        """What follows a task of the mixed fleet is run by both kinds of worker in turns."""
        current: Any = get_current_worker_task()
        shared = current is not None and current.request.delivery_info["routing_key"] in config["mixed"]
        return mixed(name, args, kwargs, options) if shared else config["queue"]

    def note(task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        notes.ran(task_id, task.request.root_id or task_id, task.name, args, kwargs, task.request.stamps)

    task_prerun.connect(note)
    app.conf.update(ONE_AT_A_TIME, task_routes=(route,), task_default_queue=config["queue"])
    app.conf.worker_prefetch_multiplier = 50  # a busy RabbitMQ takes its time for each message that is asked for
    for fn in (*TASKS, *errbacks(notes)):
        app.task(fn, name=fn.__name__)
    for fn in (bound, retry, ignore, replace, grow, spawn):
        app.task(fn, name=fn.__name__, bind=True)
    serve(app, config["queue"], config["mixed"][0], loglevel="CRITICAL")  # they fail by the dozen


if __name__ == "__main__":
    main()
