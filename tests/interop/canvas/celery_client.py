"""A real Celery client that writes, sends and awaits canvases, in a process of its own: it leaves connections behind.

As a program, `python -m interop.canvas.celery_client CONFIG`, it sends all of them over each way out that CONFIG names,
and prints where their results are found. At the next line of its input it prints what `get()` comes to.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import celery
import msgspec
from celery import Celery
from celery.canvas import Signature, chunks, xmap, xstarmap
from celery.exceptions import TimeoutError

from interop.canvas.outcomes import ENDLESS, NEVER, tree_of
from interop.canvas.routing import InTurns
from interop.canvas.shapes import SHAPES
from waiting import PATIENCE

# Celery has no types. `Any` below: signatures, and what they come to.


class CeleryLanguage:
    """Canvases as Celery's users write them."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool) -> Any:
        return self._app.signature(name, args=args, kwargs=kwargs, immutable=immutable)

    def chain(self, *steps: Any) -> Any:
        return celery.chain(*steps)

    def group(self, members: Sequence[Any]) -> Any:
        return celery.group(members)

    def chord(self, header: Sequence[Any], body: Any) -> Any:
        return celery.chord(header, body)

    def map(self, name: str, items: Sequence[Any]) -> Any:
        return xmap(self._app.signature(name), items)

    def starmap(self, name: str, items: Sequence[Any]) -> Any:
        return xstarmap(self._app.signature(name), items)

    def chunks(self, name: str, items: Sequence[Any], size: int) -> Any:
        return chunks(self._app.signature(name), items, size)

    def document(self, signature: Signature) -> dict[str, Any]:
        return dict(signature)


def main() -> None:
    config = json.loads(sys.argv[1])
    app = Celery("client", broker=config["broker"], backend=config["backend"])
    app.set_current()
    router = InTurns([])
    app.conf.task_routes = (router,)
    language = CeleryLanguage(app)
    handles: dict[str, dict[str, Any]] = {}
    for way, queues in config["ways"].items():
        router.begin(queues)
        handles[way] = {name: shape.spell(language).apply_async() for name, shape in SHAPES.items()}
    _say({way: {name: tree_of(handle) for name, handle in each.items()} for way, each in handles.items()})
    sys.stdin.readline()
    drainer: Any = app.backend.result_consumer.drainer
    # It looks at its clock once a second.
    drainer.drain_events_until = partial(drainer.drain_events_until, interval=ENDLESS)
    _say({way: {name: _value_of(handle) for name, handle in each.items()} for way, each in handles.items()})
    os._exit(0)  # Celery's connections would complain of the interpreter's end


def _value_of(handle: Any) -> Any:
    ended = handle.ready() or handle.failed()
    try:
        return handle.get(timeout=PATIENCE if ended else ENDLESS)
    except TimeoutError:
        return NEVER
    except Exception as error:
        return [type(error).__name__, error.args]


def _say(found: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
