"""Rate limits: who may start now, and who comes back when.

A token is reserved for each call as it comes, so that calls line up and nobody asks twice. A call whose turn comes
within a second is held; one whose turn is later is parked at the broker, and holds neither a slot nor memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Callable

from asyncq.driver import Clock, Coordination, Fact, GiveBack, Park
from asyncq.errors import BackendError, BrokerError, EncodeError
from asyncq.worker._attempt import Attempt
from asyncq.worker._flow import Flow
from asyncq.worker._program import Limit
from asyncq.worker._settler import Settler

logger = logging.getLogger(__name__)

#: Seconds that a call is held for its turn, at most.
_HOLD = 1.0

#: Seconds that a reservation outlives its turn: a parked message may come back late.
_RESERVED = 3600.0

#: Reservations and buckets in memory above which the old ones are looked for; then when they have doubled.
_SWEEP_ABOVE = 10_000


class LocalBuckets:
    """Token buckets of one worker: capacity 1, full at first, as in Celery."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Bucket -> when its next token is there (monotonic).
        self._next: dict[str, float] = {}
        self._sweep_above = _SWEEP_ABOVE

    def take(self, bucket: str, rate: float, *, soonest: float = 0.0, latest: float = math.inf) -> float:
        """Reserve the next token from `soonest` seconds on; return the seconds until it is there.

        Where that would be after `latest` seconds, nothing is reserved: they are returned, to ask again then.
        """
        now = self._clock.monotonic()
        turn = max(now + soonest, self._next.get(bucket, now))
        if turn - now > latest:
            return latest
        self._next[bucket] = turn + 1 / rate
        if len(self._next) > self._sweep_above:
            self._next = {name: when for name, when in self._next.items() if when > now}
            self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._next))
        return turn - now


class RateGate:
    """Lets limited attempts through to `admit` at their rate."""

    def __init__(
        self,
        *,
        coordination: Coordination | None,
        settler: Settler,
        flow: Flow,
        clock: Clock,
        admit: Callable[[Attempt], None],
        park_due: Callable[[float], None],
    ) -> None:
        self._coordination = coordination
        self._settler = settler
        self._flow = flow
        self._clock = clock
        self._admit = admit
        self._park_due = park_due
        self._buckets = LocalBuckets(clock)
        #: Ids of calls that were parked until their turn (UNIX seconds), and have a token of this worker then.
        self._reserved: dict[str, float] = {}
        self._sweep_above = _SWEEP_ABOVE
        self._held: dict[Attempt, asyncio.TimerHandle | None] = {}
        self._asking: asyncio.Queue[Attempt] = asyncio.Queue()

    def put(self, attempt: Attempt, limit: Limit) -> None:
        """Let it through when it is its turn."""
        self._held[attempt] = None
        self._flow.waiting += 1
        if limit.fleet:
            self._asking.put_nowait(attempt)
        elif self._reserved.pop(attempt.message.id, None) is not None:
            self._let_through(attempt)
        else:
            try:
                wait = self._buckets.take(limit.bucket_of(attempt.message), limit.rate)
            except EncodeError as error:
                wait = self._without_key(attempt, error)
            if wait > _HOLD:
                self._reserve(attempt.message.id, self._clock.wall() + wait)
            self._wait(attempt, wait)

    async def run(self) -> None:
        """Ask for the tokens that all workers share."""
        while True:
            attempt = await self._asking.get()
            limit = attempt.program.limit
            if limit is None or attempt not in self._held:
                continue
            wait = await self._fleets_turn(attempt, limit)
            if attempt in self._held:  # not given back meanwhile
                self._wait(attempt, wait)

    def give_back(self) -> None:
        """Return what is held to its queue."""
        for attempt, timer in self._held.items():
            if timer is not None:
                timer.cancel()
            self._settler.put(GiveBack(attempt.delivery))
        self._flow.waiting -= len(self._held)
        self._flow.stats.handed_back += len(self._held)
        self._held.clear()

    def _reserve(self, task_id: str, turn: float) -> None:
        self._reserved[task_id] = turn
        if len(self._reserved) > self._sweep_above:  # some went to other workers, which have tokens of their own
            late = self._clock.wall() - _RESERVED
            self._reserved = {known: when for known, when in self._reserved.items() if when > late}
            self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._reserved))

    async def _fleets_turn(self, attempt: Attempt, limit: Limit) -> float:
        coordination = self._coordination
        assert coordination is not None  # noqa: S101 - the worker refuses to start without
        reservation = f"turn.{hashlib.sha256(attempt.message.id.encode()).hexdigest()[:32]}"
        try:
            if await coordination.delete([reservation]):
                return 0.0
            wait = await coordination.take(limit.bucket_of(attempt.message), rate=limit.rate)
            if wait > _HOLD:
                await coordination.put([Fact(key=reservation, value=b"1", ttl=wait + _RESERVED)])
        except EncodeError as error:
            return self._without_key(attempt, error)
        except (BrokerError, BackendError) as error:
            logger.warning("The rate limit of %s can't be asked for, tried again: %s", attempt.message.task, error)
            return _HOLD + 1.0
        return wait

    def _without_key(self, attempt: Attempt, error: EncodeError) -> float:
        logger.warning("%s has no key for its rate limit, and runs without: %s", attempt, error)
        return 0.0

    def _wait(self, attempt: Attempt, wait: float) -> None:
        if wait <= 0:
            self._let_through(attempt)
        elif wait <= _HOLD:
            self._held[attempt] = asyncio.get_running_loop().call_later(wait, self._let_through, attempt)
        else:
            until = self._clock.wall() + wait
            del self._held[attempt]
            self._flow.waiting -= 1
            self._settler.put(Park(attempt.delivery, until))
            self._park_due(until)
            self._flow.notify()

    def _let_through(self, attempt: Attempt) -> None:
        del self._held[attempt]
        self._flow.waiting -= 1
        self._admit(attempt)
