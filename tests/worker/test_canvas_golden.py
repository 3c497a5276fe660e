"""The messages that follow from a task's end are those that a Celery worker sends (fixtures/amqp/worker-*.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

import golden
from asyncq import Context
from asyncq.canvas import Node
from asyncq.driver import Publication
from asyncq.protocol import WireMessage
from asyncq_brokers.memory import MemoryBroker
from worker.bench import body
from worker.canvas_bench import CanvasBench, Described, chain, chord, group, sig

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class NotingBroker(MemoryBroker):
    """Keeps what the worker has published."""

    def __init__(self, bench: CanvasBench) -> None:
        super().__init__(bench.config)
        self.published: list[WireMessage] = []

    async def publish(self, publications: Sequence[Publication]) -> None:
        await super().publish(publications)
        self.published += [each.message for each in publications if isinstance(each.message, WireMessage)]


@pytest.fixture
def bench() -> CanvasBench:
    bench = CanvasBench()

    async def add(x: int, y: int) -> int:
        return x + y

    async def mul(x: int, y: int) -> int:
        return x * y

    async def tsum(numbers: list[int]) -> int:
        return sum(numbers)

    async def echo(*args: Any) -> list[Any]:
        return list(args)

    async def fail() -> None:
        raise ValueError("boom", 1)

    async def errback_old(task_id: str) -> None: ...

    async def replace_me(ctx: Context, x: int) -> None:
        raise ctx.replace(Described(sig("proj.add", x, 100)))

    async def replace_group(ctx: Context, x: int) -> None:
        raise ctx.replace(Described(group(sig("proj.add", x, 1), sig("proj.add", x, 2))))

    async def add_chord(ctx: Context, x: int) -> int:
        await ctx.add_to_chord(Described(sig("proj.add", x, 1000)))
        return x

    for task in (add, mul, tsum, echo, fail, errback_old, replace_me, replace_group, add_chord):
        definition = bench.tasks.pop(bench.task(task))
        bench.tasks[f"proj.{task.__name__}"] = replace(definition, name=f"proj.{task.__name__}")
    return bench


def add(*args: Any, **options: Any) -> Node:
    return sig("proj.add", *args, **options)


def mul(*args: Any) -> Node:
    return sig("proj.mul", *args)


TSUM, ECHO = sig("proj.tsum"), sig("proj.echo")

SHAPES: dict[str, Node] = {
    "worker-link-callback": add(1, 2, link=[mul(10).to_dict()]),
    "worker-link-callbacks-two": add(1, 2, link=[mul(10).to_dict(), sig("proj.echo", "imm", immutable=True).to_dict()]),
    "worker-chain-next": chain(add(1, 2), mul(3), sig("proj.echo", "end")),
    "worker-chord-body": chord([add(1, 1), add(2, 2)], TSUM),
    "worker-chord-in-chain": chain(add(1, 1), group(add(10), add(20)), TSUM, mul(2)),
    "worker-group-callback-in-chain": chain(add(1, 1), group(add(10), add(20))),
    "worker-errback-old": sig("proj.fail", link_error=[sig("proj.errback_old").to_dict()]),
    "worker-replace": sig("proj.replace_me", 7),
    "worker-replace-in-chain": chain(sig("proj.replace_me", 7), mul(2)),
    "worker-replace-group": sig("proj.replace_group", 7),
    "worker-add-to-chord": chord([sig("proj.add_chord", 1), add(2, 2)], TSUM),
}


@pytest.mark.parametrize("name", SHAPES)
async def test_what_follows_is_what_celery_sends(bench: CanvasBench, name: str) -> None:
    expected = [
        golden.amqp_message(golden.load("amqp", found))
        for found in golden.names("amqp")
        if re.fullmatch(rf"{name}(-\dof\d)?", found)
    ]
    broker = NotingBroker(bench)
    await bench.start(SHAPES[name])
    await bench.worker(broker=broker, concurrency=1, burst=True).run()
    shown, captured = _shown(broker.published), _shown(expected)
    if name == "worker-add-to-chord":  # the added one stands beside its host, before or after it as their ids have it
        for found in (shown, captured):
            found[-1][1][0][0].sort()
    assert shown == captured


def _shown(messages: Sequence[WireMessage]) -> list[Any]:
    """What a worker reads, each id replaced by a number of its own."""
    numbers: dict[str, str] = {}
    text = json.dumps([_read(message) for message in messages], indent=1)
    return json.loads(_ID.sub(lambda found: numbers.setdefault(found[0], f"#{len(numbers)}"), text))


def _read(message: WireMessage) -> list[Any]:
    names = ("task", "id", "root_id", "parent_id", "group", "group_index", "retries", "replaced_task_nesting")
    return [{name: message.headers[name] for name in names}, _said(body(message))]


def _said(value: Any) -> Any:
    """Null says nothing in a signature; where results are sent is the sender's affair."""
    if isinstance(value, dict):
        return {
            name: _said(item)
            for name, item in sorted(value.items())
            if item is not None and name not in {"reply_to", "priority"}
        }
    return [_said(item) for item in value] if isinstance(value, list) else value
