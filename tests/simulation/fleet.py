"""Workers that are started, stopped, suspended and killed, and what must hold of each at every step."""

from __future__ import annotations

import asyncio
import random

from asyncq._context import Context
from asyncq.driver import DriverConfig
from asyncq.errors import BackendConnectionError, BrokerConnectionError
from asyncq.worker import Worker
from simulation.drivers import SimBackend, SimBroker
from simulation.history import History, Violation
from simulation.network import DEADLINE, Link, Seeded
from simulation.world import World
from virtual import process

LEASE = 10.0


class Member:
    """One process of the fleet."""

    def __init__(self, name: str, worker: Worker, links: list[Link]) -> None:
        self.name = name
        self.worker = worker
        self.links = links
        self.task: asyncio.Task[None] | None = None
        self.frozen = False
        self.dead = False
        #: When it was told to stop (monotonic).
        self.stopped: float | None = None

    @property
    def serves(self) -> bool:
        """It takes work, or will when it is thawed."""
        return not (self.dead or self.stopped is not None or self.task is None or self.task.done())

    def check(self, now: float, *, fair: bool) -> None:
        """The counts say what there is, and stay within their bounds (I1, I5, I7)."""
        parts = self.worker._parts
        if parts is None:
            return
        flow, concurrency = self.worker._flow, self.worker.concurrency
        running, waiting = flow.running, flow.waiting
        if not 0 <= running <= concurrency:
            raise Violation(f"{self.name}: {running} run at a time, {concurrency} may")
        if running != len(parts.executor._running):
            raise Violation(f"{self.name}: {running} are said to run, {len(parts.executor._running)} do")
        intake = parts.intake
        looked_up = 0 if intake.suspects is None else len(intake.suspects._held)
        if waiting != len(intake.dispatcher._waiting) + len(intake.gate._held) + looked_up:
            raise Violation(f"{self.name}: {waiting} are said to wait, and there are others")
        if flow.aside != sum(map(len, intake.dispatcher._of_full.values())) or flow.concluding < 0:
            raise Violation(f"{self.name}: {flow.aside} are said to stand aside, {flow.concluding} to be concluded")
        if running + waiting > 2 * concurrency + flow.aside:
            raise Violation(f"{self.name}: {running} run and {waiting} wait, though {concurrency} may run")
        if fair and parts.hold.leases._held:
            oldest = next(iter(parts.hold.leases._held.values()))[0]
            if now - oldest > LEASE / 2 + 2 * DEADLINE / 3:
                raise Violation(f"{self.name}: a lease was confirmed {now - oldest:.3f} s ago")


class Fleet:
    """Its members live in processes of their own, which can be frozen."""

    def __init__(self, world: World, history: History, weather: Seeded, dice: random.Random) -> None:
        self._world = world
        self._history = history
        self._weather = weather
        self._dice = dice
        self.members: list[Member] = []
        #: Nothing goes wrong.
        self._fair = weather.rate == 0

    # -- what happens to it

    def start(self) -> Member:
        world, name = self._world, f"worker-{len(self.members) + 1}"
        config: DriverConfig = world.config
        broker = SimBroker(config, self._weather, self._history, name)
        backend = SimBackend(config, self._weather, self._history, name)
        worker = world.worker(
            name=name,
            broker=broker,
            backend=backend,
            lease=LEASE,
            concurrency=self._dice.choice([1, 2, 4, 20]),
            shutdown_timeout=self._dice.choice([0.5, 5.0]),
            unknown_task_timeout=8.0,
        )
        member = Member(name, worker, [broker.link, backend.link])
        self._history.note(name, "fault", "started")
        with process(name):
            member.task = asyncio.create_task(self._live(member))
        self.members.append(member)
        return member

    def crash(self, member: Member) -> None:
        """SIGKILL: nothing of it runs any more, and nothing is cleaned up."""
        self._history.note(member.name, "fault", "crashed")
        member.dead = True
        for link in member.links:
            link.drop()
        if not member.frozen:
            self._world.loop.freeze(member.name)
        member.frozen = True

    def suspend(self, member: Member) -> None:
        self._history.note(member.name, "fault", "suspended")
        member.frozen = True
        self._world.loop.freeze(member.name)

    def resume(self, member: Member) -> None:
        if member.frozen and not member.dead:
            self._history.note(member.name, "fault", "resumed")
            member.frozen = False
            self._world.loop.thaw(member.name)

    def stop(self, member: Member, *, now: bool = False) -> None:
        self._history.note(member.name, "fault", "stopped", "now" if now else "")
        if member.stopped is None and not member.frozen:
            member.stopped = self._world.clock.monotonic()
        member.worker.stop(now=now)

    def cut_off(self, away: bool) -> None:
        """The servers can't be reached; or they can again."""
        self._history.note("network", "fault", "down" if away else "up")
        for member in self.members:
            for link in member.links:
                link.down = away
            if away:
                assert isinstance(member.worker._setup.broker, SimBroker)
                member.worker._setup.broker.cut()

    async def end(self, within: float) -> None:
        """Stop those that live, and see them off."""
        living = [member.task for member in self.members if member.task is not None and not member.dead]
        for member in self.members:
            if not member.dead:
                self.stop(member)
        _, pending = await asyncio.wait(living, timeout=within)
        if pending:
            raise Violation(f"{len(pending)} workers do not end")
        for task in living:
            task.result()

    async def bury(self) -> None:
        """Nothing counts any more: let what was killed end, so that it leaves nothing behind."""
        for member in self.members:
            for link in member.links:
                link.down = member.dead
            if member.dead and member.task is not None:
                self._world.loop.thaw(member.name)
                member.worker.stop(now=True)
                await asyncio.wait({member.task})
        for member in self.members:
            for link in member.links:
                await link.settled()

    @property
    def idle(self) -> bool:
        """None of those that live has anything to do."""
        return all(member.worker._flow.idle for member in self.members if member.serves)

    # -- what must hold

    def check(self) -> None:
        """After each step."""
        if self._history.violations:
            raise Violation("\n".join(self._history.violations))
        now = self._world.clock.monotonic()
        for member in self.members:
            if not member.frozen:
                member.check(now, fair=self._fair)

    def check_start(self, ctx: Context, *, early: bool) -> None:
        """Nothing starts once the stop was asked for, but what is acknowledged already (I6)."""
        name = ctx.node.partition("@")[0]
        member = next(member for member in self.members if member.name == name)
        if member.stopped is not None and self._world.clock.monotonic() > member.stopped and not early:
            self._history.violations.append(f"{ctx.task_id} was started when {name} had been stopped")

    async def _live(self, member: Member) -> None:
        try:
            await member.worker.__aenter__()
        except (BrokerConnectionError, BackendConnectionError) as error:
            self._history.note(member.name, "fault", "ended", str(error))
        else:
            await self._watch(member)

    async def _watch(self, member: Member) -> None:
        try:
            await member.worker.wait()
        except Exception as error:
            self._history.violations.append(f"{member.name} died of {error!r}")
