"""The long poll of one queue, which runs only while somebody has room for what it brings."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from asyncq.driver import Delivery, Environment
from asyncq.errors import BrokerConnectionError
from asyncq_brokers._clients.aws import Refusal

from .batches import BATCH, MISSING, QueueMissing
from .deliveries import HIDE, Deliveries, Held
from .encoding import NOT_BEFORE, Entry
from .queues import KnownQueue, Queues

__all__ = ["Poller"]

logger = logging.getLogger(__name__)

#: Seconds between polls that do not wait.
_LEAST_PAUSE = 0.05

#: Seconds that messages wait for somebody who has stopped asking: he may ask again at once.
_SHORT_PATIENCE = 1.0

#: Seconds that a queue rests after its second failure in turn, and after many; they grow twofold.
_FIRST_REST, _LONGEST_REST = 1.0, 30.0

_SYSTEM_ATTRIBUTES = ["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "MessageGroupId"]


class Poller:
    """Brings the messages of one queue. Whoever wanted a poll does not cancel it with himself: it may have taken."""

    def __init__(
        self,
        name: str,
        queues: Queues,
        deliveries: Deliveries,
        *,
        environment: Environment,
        lease: int,
        wait: int,
        pause: float,
        tell: Callable[[], None],
    ) -> None:
        self._name = name
        self._queues = queues
        self._deliveries = deliveries
        self._clock = environment.clock
        self._lease = lease
        self._wait = wait
        self._pause = max(pause, 0.0 if wait else _LEAST_PAUSE)
        #: Called when there is something new: messages, a failure, or the end of a poll.
        self._tell = tell
        #: Seconds that messages wait for somebody who asks for them; then others shall have them. To give them back
        #: costs two requests and counts as a receive, so a worker that is nearly full keeps them for its next tasks,
        #: for as long as their leases are good for a start.
        self._patience = lease / 3
        self._wanted = True
        self._shelf: deque[Held] = deque()
        self._flowing = False
        self._expected = 0
        self._emptied = asyncio.Event()
        self._patient = True
        self._closing = asyncio.Event()
        #: Seconds to rest after the next failure.
        self._rest = 0.0
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def flowing(self) -> bool:
        """Whether the last poll brought something: the next one is likely to."""
        return self._flowing

    @property
    def expected(self) -> int:
        """How many messages are likely to come of the poll under way."""
        return self._expected if self._flowing else 0

    def start(self, limit: int, *, hasty: bool = False) -> None:
        """See to it that a poll is under way; a hasty one does not wait for messages to come."""
        if self._task is None:
            self._expected = min(limit, BATCH)
            self._task = asyncio.create_task(self._run(self._expected, 0 if hasty else self._wait))

    def take(self, limit: int) -> list[Delivery]:
        """Hand out what is there."""
        self._wanted = True
        taken = [self._shelf.popleft().delivery for _ in range(min(limit, len(self._shelf)))]
        if not self._shelf:
            self._emptied.set()
        return taken

    def leave(self) -> None:
        """Nobody asks any more: what comes of the poll under way is for others."""
        self._wanted = False
        self._emptied.set()

    def raise_failure(self) -> None:
        """Raise what the last poll met with, once."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def close(self, seconds: float) -> None:
        """Wait so long for the poll's answer, then do without; give back what nobody was handed."""
        if self._task is not None:
            polling = [self._task]
            self._patient = False
            self._emptied.set()
            self._closing.set()
            _, waiting = await asyncio.wait(polling, timeout=seconds)
            for task in waiting:
                task.cancel()
            await asyncio.wait(polling)
        await self._give_back()

    async def _run(self, limit: int, wait: int) -> None:
        try:
            try:
                self._flowing = await self._poll(limit, wait)
            finally:
                self._expected = 0
            if self._flowing:
                self._tell()
                await self._wait_for_takers()
            else:
                await asyncio.sleep(self._pause)
            self._rest = 0.0
        except Exception as error:  # noqa: BLE001 - `receive` raises it
            self._failure = error
            await self._pause_after(error)
        finally:
            self._task = None
            self._tell()

    async def _pause_after(self, error: Exception) -> None:
        """Whoever is told waits before he asks again, and the other queues with him: so a queue that stays away, or is
        denied, has a rest of its own. When SQS itself can't be reached, all of them fail alike.
        """
        if isinstance(error, BrokerConnectionError) and not isinstance(error, QueueMissing):
            return
        self._tell()
        rest, self._rest = self._rest, min(max(2 * self._rest, _FIRST_REST), _LONGEST_REST)
        with suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await self._closing.wait()

    async def _poll(self, limit: int, wait: int) -> bool:
        """One receive; whether it brought anything for us."""
        queue = await self._queues.get(self._name)
        asked_at = self._clock.monotonic()
        # Nobody else gets a message for as long as our lease and the longest wait together, so that the lease can be
        # counted from the end of the wait: else a message that came late in the wait would have to be extended at once.
        hidden = self._lease + wait
        try:
            answer = await queue.link.call(
                "receive_message",
                wait=wait,
                QueueUrl=queue.url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=wait,
                VisibilityTimeout=hidden,
                MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
                MessageAttributeNames=[NOT_BEFORE],
            )
        except Refusal as refusal:
            if refusal.code in MISSING:
                self._queues.forget(self._name)
                raise QueueMissing(f"the queue {self._name!r} was deleted") from refusal
            raise queue.link.translated(refusal) from refusal
        await self._put(queue, answer.get("Messages", ()), asked_at, wait)
        return bool(self._shelf)

    async def _put(self, queue: KnownQueue, messages: Sequence[Entry], asked_at: float, wait: int) -> None:
        counted = min(self._clock.monotonic(), asked_at + wait)
        early: list[Held] = []
        seconds: list[int] = []
        now = self._clock.wall()
        for message in messages:
            held = self._deliveries.read(queue, message, asked_at, counted)
            self._deliveries.hold(held)
            until = held.not_before
            if until is not None and until > now:
                early.append(held)
                seconds.append(min(math.ceil(until - now), HIDE))
            else:
                self._shelf.append(held)
        if early:
            await self._deliveries.hide(early, seconds)

    async def _wait_for_takers(self) -> None:
        while self._shelf and self._patient:
            self._emptied.clear()
            try:
                async with asyncio.timeout(self._patience if self._wanted else _SHORT_PATIENCE):
                    await self._emptied.wait()
            except TimeoutError:
                await self._give_back()

    async def _give_back(self) -> None:
        unused = list(self._shelf)
        self._shelf.clear()
        try:
            if unused:
                await self._deliveries.hide(unused, [0] * len(unused))
        finally:
            for held in unused:  # where SQS fails, its lease gives it back
                self._deliveries.forget(held)
