"""Canvases at random, what must come out of them, and workers that are killed while they run."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from asyncq._context import Context
from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, TaskNode
from asyncq.driver import Publication
from asyncq.protocol import DISPATCH_HEADER
from asyncq.worker import Worker
from simulation.drivers import SimBackend, SimBroker
from simulation.history import History
from simulation.network import Fate, Link, Planned, Seeded, Weather
from simulation.world import HOUR, World
from virtual import process
from worker.canvas_bench import CanvasBench, chain, chord, group, sig

LEASE = 10.0


class EchoingBroker(SimBroker):
    """Some messages arrive twice."""

    dice: random.Random
    rate: float

    async def publish(self, publications: Sequence[Publication]) -> None:
        twice = [each for each in publications if self.dice.random() < self.rate]
        await super().publish([*publications, *twice])


class Lossy(Seeded):
    """Refuses no message for good: its task would fail, and with it what follows."""

    def fate(self) -> Fate:
        fate = super().fate()
        return fate._replace(fault="none") if fate.fault == "refused" else fate


class CanvasWorld(World, CanvasBench):
    """Its tasks take a while, and say what they were called with."""

    def __init__(self, seed: int = 0, *, echoes: float = 0.0, faults: float | None = None) -> None:
        """Of messages `echoes` come twice, of calls to a server `faults` go wrong; None: no call takes any time."""
        super().__init__(seed)
        self.patience = HOUR
        self._dice = random.Random(f"canvas {seed}")
        self._echoes = echoes
        self._fair: Weather = Planned()
        self._weather = self._fair if faults is None else Lossy(self._dice, faults)
        self._history = History(self.clock)
        self.broker = self._broker_of("client", self._fair)
        #: By the id of a chord's body: the sendings of it that have started.
        self.dispatched: defaultdict[str, set[str]] = defaultdict(set)
        self._names: dict[Worker, str] = {}
        self._links: dict[Worker, list[Link]] = {}
        self._tasks: dict[Worker, asyncio.Task[None]] = {}
        self._killed: set[Worker] = set()
        self._over = False

        async def mix(ctx: Context, *args: Any) -> int:
            if dispatch := ctx.headers.get(DISPATCH_HEADER):
                self.dispatched[ctx.task_id].add(dispatch)
            await asyncio.sleep(self._dice.choice([0.0, 0.0, 0.01, 0.5]))
            return mixed(args)

        self.task(mix)

    def _broker_of(self, who: str, weather: Weather) -> EchoingBroker:
        broker = EchoingBroker(self.config, weather, self._history, who)
        broker.dice, broker.rate = self._dice, self._echoes
        return broker

    def launch(self, *, killed_after: int | None = None) -> None:
        """Start a worker in a process of its own; after so many steps it is killed, and another one started."""
        name = f"process-{len(self._tasks)}"
        broker = self._broker_of(name, self._weather)
        backend = SimBackend(self.config, self._weather, self._history, name)
        worker = self.worker(
            broker=broker, backend=backend, lease=LEASE, concurrency=self._dice.choice([1, 3, 10]), start_timeout=HOUR
        )
        self._names[worker] = name
        self._links[worker] = [broker.link, backend.link]
        with process(name):
            self._tasks[worker] = asyncio.create_task(worker.run())
        if killed_after is not None:
            self.loop.after_steps(killed_after, lambda: self._kill(worker))

    def _kill(self, worker: Worker) -> None:
        if self._over:
            return
        self._killed.add(worker)
        for link in self._links[worker]:
            link.drop()
        self.loop.freeze(self._names[worker])
        self.launch()

    async def end(self) -> None:
        """Stop those that live; what was killed goes on, now that nothing counts any more, and ends."""
        self._over = True
        if isinstance(self._weather, Seeded):
            self._weather.rate = 0.0
        for worker, task in self._tasks.items():
            if worker in self._killed:
                self.loop.thaw(self._names[worker])
            worker.stop(now=worker in self._killed)
            await asyncio.wait({task})
            task.result()
            for link in self._links[worker]:
                await link.settled()


def mixed(args: Sequence[Any]) -> int:
    """Another number for each list of arguments, and for each order of them."""
    return zlib.crc32(repr(list(args)).encode())


def expected(node: Node, args: Sequence[Any] = ()) -> Any:
    """What a canvas of `mix` comes to."""
    match node:
        case TaskNode():
            return mixed([*args, *node.args])
        case ChainNode():
            value: Any = None
            for position, step in enumerate(node.tasks):
                value = expected(step, [value] if position else args)
            return value
        case GroupNode():
            return _results(node, args)
        case ChordNode():
            assert node.body is not None
            return expected(node.body, [_results(node.header, args)])


def _results(node: GroupNode, args: Sequence[Any]) -> list[Any]:
    """The members of nested groups stand among the others."""
    found: list[Any] = []
    for member in node.tasks:
        value = expected(member, args)
        found += value if isinstance(member, GroupNode) else [value]
    return found


def canvas_at_random(dice: random.Random, depth: int = 3) -> Node:
    """One that ends in a task, so that it has one result."""
    kind = dice.choice(["task", "chain", "chain", "chord", "chord"]) if depth else "task"
    match kind:
        case "chain":
            steps = [_step(dice, depth - 1) for _ in range(dice.randint(1, 3))]
            return chain(*steps, _task(dice))
        case "chord":
            return chord([_step(dice, depth - 1) for _ in range(dice.randint(1, 4))], canvas_at_random(dice, depth - 1))
        case _:
            return _task(dice)


def _step(dice: random.Random, depth: int) -> Node:
    if depth and dice.random() < 0.4:
        return group(*[_step(dice, depth - 1) for _ in range(dice.randint(1, 3))])
    return canvas_at_random(dice, depth)


def _task(dice: random.Random) -> TaskNode:
    return sig("mix", dice.randint(0, 99))
