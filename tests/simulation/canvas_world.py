"""A workflow on simulated processes that are killed, hang, hear twice and lose replies; what comes of it is noted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from asyncq._chord_opening import chord_opening
from asyncq._context import Context
from asyncq._coordination import coordination_of
from asyncq._producer import Producer
from asyncq._revoking import Revocation, keep_revocation
from asyncq._settings_sources import load_settings
from asyncq.canvas import Opening
from asyncq.driver import Publication
from asyncq.errors import BackendConnectionError, BrokerConnectionError
from asyncq.protocol import Limits, TaskMessage, decode_result
from asyncq.worker import Worker
from asyncq.worker._mailer import Mailer
from asyncq_backends.memory import MemoryBackend
from simulation.canvas_oracle import Failure, Seen, value_of
from simulation.canvas_trees import Tree, ids_of, signature, tasks_of
from simulation.drivers import SimBackend, SimBroker
from simulation.history import History
from simulation.network import Fate, Link, Planned, Seeded, Weather
from simulation.world import HOUR, World
from virtual import process
from worker.canvas_bench import CanvasBench

# `Any` below: arguments of tasks.

LEASE = 10.0


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong meanwhile."""

    #: Of messages so many come twice.
    echoes: float = 0.0
    #: Of calls to a server so many go wrong; None: no call takes any time.
    weather: float | None = None
    #: Workers that are killed after so many steps of the loop …
    kills: tuple[int, ...] = ()
    #: … or where so many calls have reached a server or come back from it.
    deaths: tuple[int, ...] = ()
    #: Workers that hang after so many steps, for longer than a lease or a claim lasts.
    hangs: tuple[int, ...] = ()


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


class _Boundary:
    """Counts how often the calls of a process reach a server and come back; there it may die."""

    def __init__(self) -> None:
        self.dies_at: int | None = None
        self.die: Callable[[], None] = lambda: None
        self._passed = 0

    def dies(self) -> bool:
        self._passed += 1
        if self._passed - 1 != self.dies_at:
            return False
        self.die()
        return True


class _MortalLink(Link):
    def __init__(
        self, weather: Weather, lost: Callable[[str], Exception], boundary: _Boundary, *, in_order: bool
    ) -> None:
        super().__init__(weather, lost, in_order=in_order)
        self._boundary = boundary

    async def request(self, effect: Callable[[], Awaitable[object]]) -> Fate:
        if self._boundary.dies():
            raise self._lost("the process has died before this")
        return await super().request(effect)

    async def reply(self, fate: Fate) -> None:
        if self._boundary.dies():
            raise self._lost("the process has died after this")
        await super().reply(fate)


class _Process:
    """A worker in a process of its own."""

    def __init__(self, name: str, worker: Worker, links: Sequence[Link]) -> None:
        self.name = name
        self.worker = worker
        self.links = links
        self.killed = False
        self.frozen = False
        with process(name):
            self.task = asyncio.create_task(worker.run())


class CanvasWorld(World, CanvasBench):
    """Its tasks do what the tree says, and note it."""

    def __init__(self, seed: int, tree: Tree, faults: Faults) -> None:
        super().__init__(seed)
        self.patience = HOUR
        self._dice = random.Random(f"canvas {seed}")
        self._tree = tree
        self._faults = faults
        self._tasks = {task.label: task for task in tasks_of(tree)}
        self._fair: Weather = Planned()
        self._weather = self._fair if faults.weather is None else Lossy(self._dice, faults.weather)
        self._history = History(self.clock)
        self.broker = self._broker_of("client", self._fair)
        self._processes: list[_Process] = []
        self._over = False
        self.seen = Seen()
        self._define_tasks()

    def _define_tasks(self) -> None:
        async def play(ctx: Context, *args: Any, label: str) -> Any:
            return await self._play(ctx, args, label)

        async def told_by_call(request: TaskMessage, exc: Exception, _traceback: Any, *, label: str) -> None:
            self.seen.told[label].append((request.id, Failure(type(exc).__name__, list(exc.args))))

        async def told_by_message(ctx: Context, task_id: str, *, label: str) -> None:
            self.seen.told[label].append((task_id, None))
            self.seen.errbacks.add(ctx.task_id)

        for task in (play, told_by_call, told_by_message):
            self.task(task)

    async def _play(self, ctx: Context, args: Sequence[Any], label: str) -> Any:
        task = self._tasks[label]
        self.seen.calls[label, ctx.retries].append((ctx.task_id, repr(list(args))))
        if dispatch := ctx.message.dispatch:
            self.seen.dispatched[label, ctx.retries].add(dispatch)
        await asyncio.sleep(self._dice.choice([0.0, 0.0, 0.01, 0.5]))
        match task.act:
            case "fail":
                raise ValueError(label)
            case "exhaust":
                raise ctx.retry(countdown=0.2, exc=ValueError(label), max_retries=1)
            case "recover" if ctx.retries == 0:
                raise ctx.retry(countdown=0.2)
            case "replace" if task.inner is not None:
                raise ctx.replace(signature(task.inner))
            case "grow" if task.inner is not None and ctx.message.chord is not None:
                await ctx.add_to_chord(signature(task.inner))
            case _:
                pass
        return value_of(label, args)

    # -- what happens

    async def play(self) -> Mapping[str, str]:
        """Send the tree, see it through, and return the ids of its tasks."""
        planner = self.planner()
        frozen = planner.freeze(signature(self._tree).node)
        ids = ids_of(frozen)
        await self._revoke(ids)
        faults = self._faults
        for steps in faults.kills:
            self._launch(killed_after=steps)
        for boundary in faults.deaths:
            self._launch(dies_at=boundary)
        for steps in faults.hangs:
            self._hang_after(steps, self._launch())
        self._launch()
        mailer = Mailer(Producer(load_settings({}), self.environment), {})
        for step in planner.plan(frozen):
            if isinstance(step, Opening):
                opening = chord_opening(step, serializer="json", compression=None, limits=Limits(), expires=HOUR)
                await self.chords.open([opening])
            else:
                await self.broker.publish([mailer.publication(step)])
        await self._drain()
        await self._look()
        await self._end()
        # Those that a worker has given are known by the first run; each further one must have the same.
        return {label: runs[0][0] for (label, _), runs in self.seen.calls.items()} | ids

    async def _revoke(self, ids: Mapping[str, str]) -> None:
        coordination = coordination_of(self.backend, self.broker)
        assert coordination is not None
        for label, task in self._tasks.items():
            if task.act == "revoke":
                revocation = Revocation(ids[label])
                await keep_revocation(coordination, revocation, new_id=self.environment.new_id)

    async def _drain(self) -> None:
        """Duplicates come late, what the dead held after a lease, and their claims once those have ended."""
        quiet = False
        while not quiet:
            await self.until(lambda depth: depth.ready == depth.in_flight == depth.parked == 0)
            before = len(self._history.effects)
            await asyncio.sleep(10 * LEASE)
            quiet = len(self._history.effects) == before

    async def _look(self) -> None:
        """What stands on the servers now."""
        assert isinstance(self.backend, MemoryBackend)
        records = self.backend._store._records
        self.seen.records = {task_id: decode_result(record.content) for task_id, record in records.items()}
        chords = self.backend.chords._store._chords
        self.seen.facts = [key for key, _ in await self.backend.coordination.scan("")]
        self.seen.open = [group_id for group_id, chord in chords.items() if not chord.closed]

    # -- processes

    def _broker_of(self, who: str, weather: Weather) -> EchoingBroker:
        broker = EchoingBroker(self.config, weather, self._history, who)
        broker.dice, broker.rate = self._dice, self._faults.echoes
        return broker

    def _launch(self, *, killed_after: int | None = None, dies_at: int | None = None) -> _Process:
        """Start a worker; when it is killed, another one is started."""
        name, boundary = f"process-{len(self._processes)}", _Boundary()
        broker = self._broker_of(name, self._weather)
        backend = SimBackend(self.config, self._weather, self._history, name)
        broker.link = _MortalLink(self._weather, BrokerConnectionError, boundary, in_order=False)
        backend.link = _MortalLink(self._weather, BackendConnectionError, boundary, in_order=True)
        backend.coordination.link = backend.chords.link = backend.link
        worker = self.worker(
            broker=broker, backend=backend, lease=LEASE, concurrency=self._dice.choice([1, 3, 10]), start_timeout=HOUR
        )
        started = _Process(name, worker, [broker.link, backend.link])
        self._processes.append(started)
        boundary.dies_at, boundary.die = dies_at, lambda: self._kill(started)
        if killed_after is not None:
            self.loop.after_steps(killed_after, lambda: self._kill(started))
        return started

    def _kill(self, victim: _Process) -> None:
        if self._over:
            return
        victim.killed = victim.frozen = True
        for link in victim.links:
            link.drop()
        self.loop.freeze(victim.name)
        self._launch()

    def _hang_after(self, steps: int, victim: _Process) -> None:
        def thaw() -> None:
            if victim.frozen:
                victim.frozen = False
                self.loop.thaw(victim.name)

        def hang() -> None:
            if not self._over:
                victim.frozen = True
                self.loop.freeze(victim.name)
                self.loop.call_later(3 * LEASE, thaw)

        self.loop.after_steps(steps, hang)

    async def _end(self) -> None:
        """Stop those that live; what was killed goes on, now that nothing counts any more, and ends."""
        self._over = True
        if isinstance(self._weather, Seeded):
            self._weather.rate = 0.0
        for each in self._processes:
            if each.frozen:
                self.loop.thaw(each.name)
            each.worker.stop(now=each.killed)
            await asyncio.wait({each.task})
            each.task.result()
            for link in each.links:
                await link.settled()
