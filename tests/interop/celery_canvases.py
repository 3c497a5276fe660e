"""A real Celery client that sends one canvas after the other, in a process of its own: it leaves connections behind.

Called with the URL of broker and backend, it prints what each came to, as one JSON object. The outcomes in the table
were measured with a Celery 5.7 worker.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group
from celery.canvas import Signature

from waiting import PATIENCE

# Celery has no types. `Any` below: signatures, and what they come to.

#: How an error is shown.
BOOM = ["ValueError", ["boom", 1]]


def add(*args: Any) -> Any:
    return Signature("add", args=args)


def mul(*args: Any) -> Any:
    return Signature("mul", args=args)


def total() -> Any:
    return Signature("total")


def echo(*args: Any) -> Any:
    return Signature("echo", args=args)


def fail(**options: Any) -> Any:
    return Signature("fail", **options)


SHAPES: dict[str, tuple[Callable[[], Any], Any]] = {
    "chain": (lambda: chain(add(1, 2), mul(3), echo()), [9]),
    "chain in a chain": (lambda: chain(add(1, 2), chain(mul(3), add(1)), echo("x")), [10, "x"]),
    "immutable step": (lambda: chain(add(1, 2), Signature("echo", args=("x",), immutable=True)), ["x"]),
    "group": (lambda: group(add(1, 2), add(3, 4)), [3, 7]),
    "group of chains": (lambda: group(add(1, 2) | mul(2), add(3, 4)), [6, 7]),
    "chord": (lambda: chord([add(1, 1), add(2, 2)], total()), 6),
    "chord of one": (lambda: group(add(1, 1)) | total(), 2),
    "chord of none": (lambda: chord([], total()), 0),
    "chord with a chain for a body": (lambda: chord([add(1, 1), add(2, 2)], chain(total(), mul(10))), 60),
    "chord with a group for a body": (lambda: chord([add(1, 1), add(2, 2)], group(total(), echo())), [6, [[2, 4]]]),
    "chord with a chord for a body": (
        lambda: chord([add(1, 1)], chord([total(), echo()], echo())),
        [[2, [[2]]]],
    ),
    "group at a chain's end": (lambda: add(1, 1) | group(add(10), add(20)), [12, 22]),
    "group in a chain": (lambda: chain(add(1, 1), group(add(10), add(20)), total(), mul(2)), 68),
    "two groups in a row": (lambda: group(add(1, 1), add(2, 2)) | group(total(), echo()), [6, [[2, 4]]]),
    "three in a row": (
        lambda: add(1, 1) | group(add(1), add(2)) | group(total(), echo()) | echo(),
        [[7, [[3, 4]]]],
    ),
    "chord in a chord's header": (
        lambda: chord([chord([add(1, 1), add(2, 2)], total()), add(3, 3)], total()),
        12,
    ),
    "chain in a chord's header": (lambda: chord([add(1, 1) | mul(5), add(3, 3)], echo()), [[10, 6]]),
    "chain that ends in a group in a header": (
        lambda: chord([add(0, 0), chain(add(1, 1), group(add(10), add(20)))], echo()),
        [[0, [12, 22]]],
    ),
    "chord that something follows": (lambda: chord([add(1, 1)], total()) | mul(2) | echo(), [4]),
    "group in a group in a header": (lambda: chord([add(0, 0), group(add(1, 1), add(2, 2))], total()), 6),
    "failed step": (lambda: chain(fail(), mul(3), echo()), BOOM),
    "failed step in the middle": (lambda: chain(add(1, 1), fail(), echo()), BOOM),
    "failed member of a group": (lambda: group(add(1, 1), fail()), BOOM),
    "failed member of a header": (lambda: chord([add(1, 1), fail(immutable=True)], total()), BOOM),
    "failed header before a chain": (lambda: chord([fail(immutable=True)], chain(total(), mul(2))), BOOM),
    "failed header in a chain": (lambda: chain(add(1, 1), group(fail(), add(20)), total(), mul(2)), BOOM),
    "failed body": (lambda: chord([add(1, 1)], fail()) | mul(2), BOOM),
    "links": (lambda: add(1, 2).set(link=[mul(3), echo()]), 3),
}


def outcome_of(make: Callable[[], Any]) -> Any:
    """What it comes to."""
    try:
        return make().apply_async().get(timeout=PATIENCE)
    except Exception as error:
        return [type(error).__name__, list(error.args)]


def main(url: str) -> None:
    Celery("client", broker=url, backend=url).set_current()
    print(json.dumps({name: outcome_of(make) for name, (make, _) in SHAPES.items()}), flush=True)
    os._exit(0)  # Celery's connections would complain of the interpreter's end


if __name__ == "__main__":
    main(sys.argv[1])
