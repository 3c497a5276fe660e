"""Lets others see what the worker does, and does what they ask, where the broker can't carry such things."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import anyio

from asyncq._presence import INTERVAL, MOST_SHOWN, Command, Presence, Running, announce, fetch, leave, letters_of
from asyncq._revoking import COUNTER
from asyncq.driver import Coordination
from asyncq.errors import BackendError, BrokerError
from asyncq.worker._backoff import Backoff
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._revoker import Revoker
from asyncq.worker._setup import WorkerSetup

logger = logging.getLogger(__name__)

#: Seconds that saying good-bye may take.
_FAREWELL = 1.0


class Visibility:
    """Says every 25 seconds what runs, and looks for commands."""

    def __init__(
        self,
        coordination: Coordination,
        setup: WorkerSetup,
        *,
        node: str,
        flow: Flow,
        executor: Executor,
        revoker: Revoker | None,
        stop: Callable[[], None],
    ) -> None:
        self._coordination = coordination
        self._node = node
        self._queues = [queue.name for queue in setup.queues]
        self._flow = flow
        self._executor = executor
        self._clock = setup.environment.clock
        self._backoff = Backoff(setup.environment.random)
        self._revoker = revoker
        self._stop = stop
        #: The counter of its letters, as it was when they were fetched.
        self._letters: bytes | None = None
        #: Held by whoever writes or deletes the sign of life.
        self._telling = anyio.Lock()
        self._left = False
        self._since = self._clock.wall()

    async def run(self) -> None:
        while True:
            await self.look()
            await anyio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look for letters and revocations; then a sign of life, which tells what has come of them."""
        async with self._telling:
            if self._left:
                return
            try:
                letters, revocations = await self._coordination.get([letters_of(self._node), COUNTER])
                if letters != self._letters:
                    for command in await fetch(self._coordination, self._node):
                        self._obey(command)
                    self._letters = letters
                if self._revoker is not None:
                    await self._revoker.heed(revocations)
                await announce(self._coordination, self._presence())
            except (BrokerError, BackendError) as error:
                if not self._backoff.failing:
                    logger.warning("Others can't see what this worker does: %s", error)
                self._backoff.next_delay()
            else:
                if self._backoff.reset():
                    logger.info("Others see again what this worker does")

    async def leave(self) -> None:
        """The worker ends in order. No sign of life is on its way any more when the last one is taken back."""
        self._left = True
        try:
            with anyio.move_on_after(_FAREWELL):
                async with self._telling:
                    await leave(self._coordination, self._node)
        except (BrokerError, BackendError) as error:
            logger.debug("The sign of life stays until it expires: %s", error)

    def _obey(self, command: Command) -> None:
        if command.do == "shutdown":
            logger.info("Told to stop by remote control")
            self._stop()
        elif command.amount is not None and command.amount >= 1:
            self._flow.resize(command.amount)
            logger.info("Told to run %d tasks at a time by remote control: %d", command.amount, self._flow.concurrency)

    def _presence(self) -> Presence:
        monotonic, wall = self._clock.monotonic(), self._clock.wall()
        running = [
            Running(
                id=attempt.message.id,
                task=attempt.message.task,
                queue=attempt.delivery.queue,
                since=wall - (monotonic - attempt.started_at),
            )
            for attempt in self._executor.running
            if attempt.started_at is not None
        ]
        running.sort(key=lambda each: each.since)
        stats = self._flow.stats
        return Presence(
            node=self._node,
            pid=os.getpid(),
            since=self._since,
            seen=wall,
            queues=self._queues,
            concurrency=self._flow.concurrency,
            running_count=len(running),
            running=running[:MOST_SHOWN],
            succeeded=stats.succeeded,
            failed=stats.failed,
        )
