"""One seed, one run: a load, a fleet, whatever befalls them, and what must be true in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from asyncq._context import Context
from asyncq._coordination import coordination_of
from asyncq._revoking import Revocation, keep_revocation
from asyncq._unique import HEADER
from asyncq.driver import Coordination, Fact, Publication
from asyncq.errors import BrokerError
from asyncq.protocol import READY_STATES, TaskMessage, encode_task
from simulation.drivers import SimBroker
from simulation.fleet import LEASE, Fleet, Member
from simulation.history import History, Violation
from simulation.load import KINDS, POISON, UNKNOWN, Call, Load
from simulation.network import Seeded
from simulation.world import World
from virtual import run

#: Seconds in which all must be done once the last fault is over: some leases, and the longest of retries and dates.
PATIENCE = 300.0


class Scenario:
    """What is thrown by the seed, and played on the running loop."""

    def __init__(self, seed: int) -> None:
        self._dice = dice = random.Random(seed)
        self._world = World(seed)
        self.history = History(self._world.clock)
        #: Nothing goes wrong, and so nothing may happen twice.
        self._fair = dice.random() < 0.15
        self._weather = Seeded(random.Random(f"weather {seed}"), 0.0 if self._fair else dice.choice([0.002, 0.02, 0.1]))
        self._fleet = Fleet(self._world, self.history, self._weather, dice)
        self._producer = SimBroker(self._world.config, self._weather, self.history, "producer")
        self._load = Load(self._world, self.history, self._check_start)
        self._calls: dict[str, Call] = {}
        self._acknowledged: set[str] = set()
        self._poisoned = 0
        #: Of the wall clock.
        self._jumped = 0.0

    async def play(self) -> None:
        self._world.loop.watch = self._fleet.check
        self._fleet.start()
        for delay, act in self._script():
            await asyncio.sleep(delay)
            await act()
        await self._calm_down()
        await self._drain()
        await self._fleet.end(within=60.0)
        await self._check_end()
        await self._check_nothing_follows()
        self._world.loop.watch = None
        self.history.closed = True
        await self._fleet.bury()
        await self._producer.link.settled()

    # -- what happens

    def _script(self) -> list[tuple[float, Callable[[], Any]]]:
        """Pauses, and what happens after each."""
        dice = self._dice
        acts: list[Callable[[], Any]] = [self._send] * dice.randint(5, 40)
        acts += [self._start] * dice.randint(0, 2)
        acts += [self._revoke] * dice.randint(0, 2)
        acts += [self._poison] * (dice.random() < 0.1)
        if not self._fair:
            troubles = [self._crash, self._suspend, self._stop, self._outage, self._jump, self._duplicate]
            acts += dice.choices(troubles, k=dice.randint(0, 6))
        dice.shuffle(acts)
        pace = dice.choice([0.0, 0.02, 0.5, 2.0])
        return [(dice.expovariate(1 / pace) if pace and dice.random() < 0.7 else 0.0, act) for act in acts]

    async def _send(self) -> None:
        dice = self._dice
        kind = dice.choice([*KINDS, "work", "early", UNKNOWN])
        seconds = dice.choice([0.0, 0.0, dice.random(), 5 * dice.random(), 2.5 * LEASE * dice.random()])
        call = Call(f"id-{len(self._calls) + 1}", kind, dice.randint(0, 99), seconds, dice.randint(0, 4))
        message = TaskMessage(task=kind, id=call.task_id, args=[call.value, call.seconds, call.failures])
        if dice.random() < 0.15:
            message.eta = self._world.date(dice.uniform(-1, 30))
            call.eta = message.eta.timestamp()
        if dice.random() < 0.1 and kind not in {"silent", UNKNOWN}:
            message.expires = self._world.date(dice.uniform(-1, 40))
            call.may_be_revoked = True
        self._calls[call.task_id] = call
        self.history.silent.update({call.task_id} if kind == "silent" else ())
        self.history.early.update({call.task_id} if kind == "early" else ())
        self.history.note("producer", "send", call.task_id, kind)
        if kind == "unique" and not await self._claim(call):
            del self._calls[call.task_id]
            return
        publication = Publication(message=encode_task(message, headers=call.headers), queue="celery")
        try:
            await self._producer.publish([publication])
        except BrokerError:
            return
        self._acknowledged.add(call.task_id)

    async def _claim(self, call: Call) -> bool:
        assert call.headers is not None
        fact = Fact(key=call.headers[HEADER]["key"], value=call.task_id.encode(), ttl=86400.0)
        return (await self._coordination.put([fact], if_absent=True))[0]

    @property
    def _coordination(self) -> Coordination:
        coordination = coordination_of(self._world.backend, self._world.broker)
        assert coordination is not None
        return coordination

    async def _start(self) -> None:
        self._fleet.start()

    async def _revoke(self) -> None:
        if not self._calls:
            return
        call = self._calls[self._dice.choice(sorted(self._calls))]
        if call.kind in {"silent", UNKNOWN}:
            return
        call.may_be_revoked = True
        self.history.note("producer", "fault", "revoke", call.task_id)
        revocation = Revocation(call.task_id, terminate=self._dice.random() < 0.5)
        await keep_revocation(self._coordination, revocation, new_id=self._world.environment.new_id)

    async def _poison(self) -> None:
        self._poisoned += 1
        self.history.note("producer", "fault", POISON)
        await self._world.broker.publish([Publication(message=b"\x00 no message", queue="celery")])

    async def _duplicate(self) -> None:
        """Somebody sends what was sent, under the same id."""
        ready = await self._world.broker.peek("celery", "ready")
        if ready:
            stored = self._dice.choice(ready)
            self.history.note("producer", "fault", "duplicate")
            await self._world.broker.publish([Publication(message=stored.content, queue="celery")])

    async def _crash(self) -> None:
        """And soon another one is there; a supervisor gives back what the dead one held, or nobody does."""
        member = self._pick()
        if member is None:
            return
        self._fleet.crash(member)
        await asyncio.sleep(self._dice.choice([0.0, 0.3, 3.0]))
        if self._dice.random() < 0.5:
            await self._world.broker.release(member.worker.node)
        self._fleet.start()

    async def _suspend(self) -> None:
        member = self._pick()
        if member is not None:
            self._fleet.suspend(member)
            pause = self._dice.choice([0.1, 1.0, LEASE / 2, 3 * LEASE]) * self._dice.random()
            self._world.loop.call_later(pause, self._fleet.resume, member)

    async def _stop(self) -> None:
        member = self._pick()
        if member is None:
            return
        now = self._dice.random() < 0.3
        self._world.loop.after_steps(self._dice.randint(0, 200), lambda: self._fleet.stop(member, now=now))
        await asyncio.sleep(self._dice.random())
        self._fleet.start()

    async def _outage(self) -> None:
        self._fleet.cut_off(away=True)
        await asyncio.sleep(self._dice.choice([0.1, 2.0, LEASE, 2 * LEASE]) * self._dice.random())
        self._fleet.cut_off(away=False)

    async def _jump(self) -> None:
        seconds = self._dice.uniform(-60, 60)
        self.history.note("clock", "fault", "jump", f"{seconds:.3f}")
        self._jumped += seconds
        self._world.clock.jump(seconds)

    def _pick(self) -> Member | None:
        living = [member for member in self._fleet.members if member.serves and not member.frozen]
        return self._dice.choice(living) if living else None

    # -- how it ends

    async def _calm_down(self) -> None:
        """No further fault; the clock is right again; somebody works."""
        self.history.note("network", "fault", "over")
        self._weather.rate = 0.0
        self._world.clock.jump(-self._jumped)
        for member in self._fleet.members:
            self._fleet.resume(member)
        await asyncio.sleep(1)
        if not any(member.serves for member in self._fleet.members):
            self._fleet.start()

    async def _drain(self) -> None:
        """Wait until the queue is empty, nobody holds anything, and nothing runs."""
        deadline = self._world.clock.monotonic() + PATIENCE
        while (depth := await self._world.depth()).ready or depth.in_flight or depth.parked or not self._fleet.idle:
            if self._world.clock.monotonic() > deadline:
                raise Violation(f"stuck: {depth}")
            if not any(member.serves for member in self._fleet.members):
                self._fleet.start()  # the last one had been told to stop, or could not start
            await asyncio.sleep(1)

    async def _check_end(self) -> None:
        unknown = 0
        for call in self._calls.values():
            published = any(each.what == "publish" for each in self.history.by_task[call.task_id])
            if call.task_id in self._acknowledged and not published:
                raise Violation(f"{call.task_id} was said to be sent, and was not")
            if published:
                await self._check_call(call)
                unknown += call.kind == UNKNOWN
        dead = (await self._world.depth()).dead or 0
        if dead < self._poisoned + unknown:
            raise Violation(f"{dead} dead letters, {self._poisoned} poisoned, {unknown} unknown")
        if self._fair:
            await self._check_all_is_told(dead - self._poisoned - unknown)

    async def _check_all_is_told(self, further_letters: int) -> None:
        """Where nothing went wrong, each delivery was settled, and no claim is left (I7)."""
        unsettled = [handling.task_id for handling in self.history.handled.values() if handling.settled is None]
        received = sum(member.worker.stats.received for member in self._fleet.members)
        claims = await self._coordination.scan("unique.")
        if unsettled or claims or further_letters or received != len(self.history.handled):
            told = f"{received} of {len(self.history.handled)} received, {further_letters} more letters"
            raise Violation(f"{unsettled} are not settled, {claims} are left, {told}")

    async def _check_nothing_follows(self) -> None:
        """What was given up may go on for a while; whatever it does then, the records stay as they are (I11)."""
        before = await self._world.backend.get(list(self._calls))
        await asyncio.sleep(60)
        if await self._world.backend.get(list(self._calls)) != before:
            raise Violation("a record has changed after the end")

    async def _check_call(self, call: Call) -> None:
        """It has come to its end, and the record says which."""
        history, task_id = self.history, call.task_id
        what = f"{task_id} ({call.kind})"
        record = await self._world.record(task_id)
        starts = history.starts(task_id)
        if self._fair and not call.may_be_revoked and starts != call.attempts():
            raise Violation(f"{what} has run {starts} times, and {call.attempts()} were asked for")
        if call.kind == "silent":
            if not (history.ends(task_id, "SUCCESS")):
                raise Violation(f"{what} is lost")
            return
        if call.kind == "early" and not self._fair and (record is None or record.status not in READY_STATES):
            return  # at most once: its worker was killed
        if record is None or record.status not in READY_STATES:
            raise Violation(f"{what} has no end: {record and record.status}")
        expected = call.expected()
        if self._fair:
            stored = [each.detail for each in history.by_task[task_id] if each.what == "store"]
            if record.status not in expected or any(state in READY_STATES for state in stored[:-1]):
                raise Violation(f"{what} ended as {stored}, not as {expected}: {record.result}")
        if record.status == "SUCCESS":
            if record.result != call.answer:
                raise Violation(f"{what} has the result {record.result!r}")
            if not history.ends(task_id, "SUCCESS"):
                raise Violation(f"{what} has succeeded, and never ended")
        elif record.status not in expected and not self._is_excused(call, record.result):
            raise Violation(f"{what} ended as {record.status}: {record.result}")

    def _is_excused(self, call: Call, result: Any) -> bool:
        """A fault has made it fail: its retry was refused, or it was acknowledged and interrupted."""
        if call.kind == "early":
            return result["exc_type"] == "WorkerLostError"
        return result["exc_message"] == ["by plan"] or (call.may_be_revoked and call.kind in {"flaky", "asks"})

    def _check_start(self, ctx: Context) -> None:
        if self.history.closed:
            return
        call = self._calls[ctx.task_id]
        self._fleet.check_start(ctx, early=call.kind == "early")
        if self._fair and call.eta > self._world.clock.wall():
            self.history.violations.append(f"{ctx.task_id} was started before its time")


def play(seed: int) -> History:
    """Play a seed; in every third one the order of what is ready is thrown, too. A failure tells all."""
    dice = random.Random(f"order {seed}")
    scenario: list[Scenario] = []

    async def main() -> None:
        scenario.append(Scenario(seed))
        await scenario[0].play()

    try:
        run(main(), dice=dice if dice.random() < 1 / 3 else None)
    except BaseException as error:
        trace = scenario[0].history.trace() if scenario else ""
        raise AssertionError(f"seed {seed}: {error!r}\n{trace}") from error
    return scenario[0].history
