"""The wire between a worker and its servers: how long a call is under way, and what may happen to it there."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, get_args

from asyncq.errors import BackendError, BrokerError

P = ParamSpec("P")
T = TypeVar("T")

#: What happens to one call. It goes well; takes a second; its request or its reply is lost; its request arrives when
#: nobody waits for it any more; a part of the batch is done before the connection breaks; the server is full; a member
#: of the batch is refused for good.
Fault: TypeAlias = Literal["none", "slow", "request lost", "reply lost", "late", "partial", "full", "refused"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

#: Seconds that a driver waits for an answer.
DEADLINE = 3.0

#: Seconds after which a request to a server that keeps order has arrived or never will: half a lease. What a record
#: says that is under way for longer, nobody can fence.
LATEST = 5.0


class Fate(NamedTuple):
    """What becomes of one call."""

    fault: Fault = "none"
    #: Seconds to the server, and back.
    there: float = 0.0
    back: float = 0.0


class Weather(Protocol):
    """Decides the fate of each call."""

    def fate(self) -> Fate: ...


class Planned:
    """Faults by plan; after the last of them all goes well."""

    def __init__(self, plan: Iterable[Fault] = ()) -> None:
        self._plan = iter(plan)

    def fate(self) -> Fate:
        for fault in self._plan:
            return Fate(fault, there=1.0 if fault == "slow" else 0.0)
        return Fate()


class Seeded:
    """Faults and latencies by dice: most calls take no time, a few take long, and some of them too long."""

    def __init__(self, dice: random.Random, rate: float) -> None:
        self._dice = dice
        #: How many of the calls have a fault; 0 in fair weather, when nothing takes longer than a driver waits.
        self.rate = rate

    def fate(self) -> Fate:
        fault: Fault = "none"
        if self._dice.random() < self.rate:
            fault = self._dice.choice(FAULTS[2:])
        return Fate(fault, self._latency(), self._latency())

    def _latency(self) -> float:
        draw = self._dice.random()
        if draw < 0.6:
            return 0.0
        if draw < 0.95:
            return self._dice.random() * 0.02
        if draw < 0.99 or self.rate == 0:
            return self._dice.random()
        return min(60.0, self._dice.paretovariate(1.0))


class Link:
    """One process's connection to one server."""

    def __init__(self, weather: Weather, lost: Callable[[str], Exception], *, in_order: bool = False) -> None:
        """`in_order`: the server does one thing after the other, what came late first."""
        self._weather = weather
        self._lost = lost
        self._in_order = in_order
        #: The server can't be reached.
        self.down = False
        self._late: set[asyncio.Task[Any]] = set()

    async def call(self, effect: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have an effect on the server, and hear of it; or not. For calls of which no part can fail alone."""
        fate = await self.request(lambda: effect(*args, **kwargs))
        result = await effect(*args, **kwargs)
        await self.reply(fate)
        return result

    async def request(self, effect: Callable[[], Awaitable[object]]) -> Fate:
        """The way there. Raises when the server does not hear of it, or not in time: `effect` happens then later."""
        fate = self._weather.fate()
        if self.down:
            await asyncio.sleep(0)
            raise self._lost("the server is away")
        if fate.fault == "late" or fate.there > DEADLINE:
            self._send_late(effect, min(max(fate.there, 0.001), LATEST if self._in_order else math.inf))
            await asyncio.sleep(min(fate.there, DEADLINE))
            raise self._lost("no answer in time")
        if self._in_order and self._late:
            await asyncio.wait(self._late, timeout=DEADLINE)
            if self._late:
                raise self._lost("the server is behind")
        if fate.there:
            await asyncio.sleep(fate.there)
        if fate.fault == "request lost" or self.down:
            raise self._lost("the request was lost")
        return fate

    async def reply(self, fate: Fate) -> None:
        """The way back. Raises when it gets lost, or takes too long."""
        if fate.back:
            await asyncio.sleep(min(fate.back, DEADLINE))
        if fate.fault in {"reply lost", "partial"} or fate.back > DEADLINE or self.down:
            raise self._lost("the reply was lost")

    def drop(self) -> None:
        """The process is dead: what is under way to the server does not arrive any more."""
        for task in self._late:
            task.cancel()

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._late:
            await asyncio.wait(self._late)

    def _send_late(self, effect: Callable[[], Awaitable[object]], delay: float) -> None:
        async def arrive() -> None:
            await asyncio.sleep(delay)
            with contextlib.suppress(BrokerError, BackendError):  # the sender is gone, and its connection closed
                await effect()

        # A context of its own: the network goes on when the process that sent it is frozen.
        task = asyncio.get_running_loop().create_task(arrive(), context=Context())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
