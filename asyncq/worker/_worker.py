"""A worker: its parts put together, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

import anyio

from asyncq._flight import FlightRecorder, Phase, monotonic
from asyncq._resources import Resources, open_lifespans
from asyncq.driver import Queue
from asyncq.errors import BackendConnectionError, BrokerConnectionError, BrokerError
from asyncq.worker._attempt import Attempt
from asyncq.worker._backoff import Backoff
from asyncq.worker._ending import LEAST_GRACE, StopOrder
from asyncq.worker._flow import LEAST_CONCLUDING, Flow, WorkerStats
from asyncq.worker._parts import Parts
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._supervision import Supervision
from asyncq.worker._watch import LoopWatch
from asyncq.worker._wear import Wear

logger = logging.getLogger("asyncq.worker")

#: Seconds that a condemned process may drain at most, where nobody says how long.
_LONGEST_DRAIN = 300.0
#: Tasks at a time that the flight table has room for, however few there are at first: nothing is paid for slots that
#: nobody uses. And slots for each: one that runs, two that are concluded, one that is settled.
_MOST_AT_A_TIME, _SLOTS = 1000, 4


class Worker:
    """Receives, runs and concludes tasks until it is told to stop. Made by `AsyncQ.worker(…)`.

    ::

        async with queue.worker(concurrency=500):
            ...  # the worker runs beside this block, and drains when it ends

    It runs in one asyncio task of its own, so that entering and leaving may happen in different tasks. It installs no
    signal handlers. If it dies, the block goes on, and leaving it (or `wait`) raises what it died of.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._flow = Flow(setup.concurrency, setup.environment.clock)
        self._ready = asyncio.Event()
        self._order = StopOrder(self._flow, setup.environment.clock)
        self._task: asyncio.Task[None] | None = None
        self._parts: Parts | None = None
        self._supervision: Supervision | None = None
        self._flights: FlightRecorder | None = None
        self._wear: Wear | None = None
        #: `<name>@<host>`.
        self.node: str = f"{setup.name}@{socket.gethostname()}"

    @property
    def stats(self) -> WorkerStats:
        """Counts since the start."""
        return self._flow.stats

    @property
    def queues(self) -> tuple[Queue, ...]:
        return tuple(self._setup.queues)

    @property
    def concurrency(self) -> int:
        return self._flow.concurrency

    async def __aenter__(self) -> Self:
        """Start, and return when the worker is ready to receive.

        Raises BrokerConnectionError, BackendConnectionError when a server stays away longer than `start_timeout`.
        """
        if self._task is not None:
            raise RuntimeError("this worker was started before; make another one")
        self._task = asyncio.get_running_loop().create_task(self._main(), name=f"asyncq worker {self.node}")
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stop(now=True)
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop: drain within `shutdown_timeout`, hand back the rest. Raises what the worker died of, if it did."""
        self.stop()
        with anyio.CancelScope(shield=True):
            await self.wait()

    async def run(self) -> None:
        """Start, and run until `stop` is called (or, in burst mode, until nothing is left to do)."""
        async with self:
            await self.wait()

    def stop(self, *, now: bool = False) -> None:
        """Ask for the end; returns at once. With `now`, running tasks are cancelled instead of waited for."""
        self._order.ask(self._setup.shutdown_timeout, at_once=now)

    async def wait(self) -> None:
        """Wait for the end. Raises what the worker died of, if it did."""
        if self._task is None:
            raise RuntimeError("this worker was never started")
        await asyncio.wait({self._task})
        self._task.result()

    def put_under(self, supervision: Supervision) -> None:
        """Tell a supervisor how it goes, and do what it says. To be called before the start."""
        setup = self._setup
        self._supervision = supervision
        # Concurrency may be raised later, and what has no slot can neither be convicted nor told of when it is lost.
        most = max(setup.concurrency, LEAST_CONCLUDING, _MOST_AT_A_TIME)
        self._flow.most_at_a_time = most
        self._flights = FlightRecorder(
            supervision.table,
            slots=_SLOTS * most,
            stall_timeout=setup.stall_timeout,
            shutdown_timeout=setup.shutdown_timeout,
            kill_grace=self._grace,
            brief=supervision.brief,
        )
        self._wear = Wear(
            self._flights, self.condemn, max_tasks=supervision.max_tasks, max_memory=supervision.max_memory
        )

    def condemn(self, reason: str) -> None:
        """The process is worn out: take nothing new, let what runs end, and have the supervisor start another one.

        Does nothing where there is no supervisor, or when the worker ends already.
        """
        if self._flights is None or self._order.asked.is_set():
            return
        timeout = self._drain_timeout()
        logger.warning("This process shall be replaced: %s. What runs gets %g s to end", reason, round(timeout, 1))
        self._flights.condemn(monotonic() + timeout + self._grace)
        self._order.ask(timeout)

    @property
    def patience(self) -> float:
        """Seconds until who has asked for the end may end the process by force; infinity as long as nobody has."""
        return self._order.patience(self._setup.kill_grace)

    @property
    def abandoned(self) -> bool:
        """Code of a task was given up and still runs: the interpreter, or asyncio, would wait for it in vain."""
        return self._parts is not None and self._parts.executor.abandoned

    # -- the worker's own task ----------------------------------------------------------------------------------

    async def _main(self) -> None:
        setup = self._setup
        async with AsyncExitStack() as stack:
            self._watch(stack)
            stack.push_async_callback(setup.broker.close)
            if setup.backend is not None:
                stack.push_async_callback(setup.backend.close)
            resources = await self._open_lifespans(stack) if await self._open() else None
            if resources is not None:
                self._parts = Parts(
                    setup,
                    self._flow,
                    resources,
                    node=self.node,
                    order=self._order,
                    flights=self._flights,
                    wear=self._wear,
                    condemn=self.condemn,
                    stop=self.stop,
                )
                await self._work(self._parts)

    def _watch(self, stack: AsyncExitStack) -> None:
        setup, flights = self._setup, self._flights
        if flights is None and not (setup.watch or setup.watchdog):
            return
        watch = LoopWatch(
            clock=setup.environment.clock,
            stats=self.stats,
            culprit=self._culprit,
            beat=None if self._wear is None else self._wear.beat,
            on_turn=None if flights is None else flights.look,
            suspect=None if flights is None else lambda attempt: flights.suspect(attempt.slot),
            watchdog=setup.stall_timeout if setup.watchdog else None,
        )
        if self._supervision is not None:
            patience = setup.shutdown_timeout + self._grace
            watch.listen(self._supervision.control, self._obey, stall_timeout=setup.stall_timeout, patience=patience)
        stack.enter_context(watch)

    def _culprit(self, task: asyncio.Task[Any]) -> Attempt | None:
        return None if self._parts is None else self._parts.executor.culprit(task)

    def _obey(self, now: bool) -> None:
        self.stop(now=now)

    @property
    def _grace(self) -> float:
        """Seconds that others shall leave this process for its end, once what runs is cancelled."""
        return max(self._setup.kill_grace, LEAST_GRACE)

    def _drain_timeout(self) -> float:
        """Seconds that what runs may go on in a condemned process."""
        setup = self._setup
        if setup.drain_timeout is not None:
            return setup.drain_timeout
        left = 0.0 if self._parts is None else self._parts.executor.longest_time_left()
        return max(setup.shutdown_timeout, min(left, _LONGEST_DRAIN))

    async def _work(self, parts: Parts) -> None:
        try:
            await self._serve(parts)
        finally:
            # Nothing runs any more, unless a fault of ours or of a driver's has brought us here.
            parts.executor.interrupt()
            await parts.executor.join(self._setup.kill_grace)
            await parts.executor.close()
            await parts.hold.consumer.close()

    async def _open(self) -> bool:
        """Connect; a server that is away (it may be starting, as we are) gets `start_timeout` seconds.

        Returns False when the worker was told to stop meanwhile.
        """
        setup, backoff = self._setup, Backoff(self._setup.environment.random)
        clock = setup.environment.clock
        deadline = clock.monotonic() + setup.start_timeout
        while True:
            try:
                await setup.broker.open()
                if setup.backend is not None:
                    await setup.backend.open()
                await setup.broker.declare(setup.queues)
            except (BrokerConnectionError, BackendConnectionError) as error:
                if clock.monotonic() >= deadline:
                    raise
                if not backoff.failing:
                    logger.warning("Waiting for a server: %s", error)
                with anyio.move_on_after(backoff.next_delay()):
                    await self._order.asked.wait()
                    return False
            else:
                return True

    async def _open_lifespans(self, stack: AsyncExitStack) -> Resources | None:
        """None when the worker was told to stop meanwhile: whatever a lifespan waits for isn't wanted any more."""
        loop = asyncio.get_running_loop()
        # No cancel scope of anyio's: a lifespan may leave one open until it is closed, and they must nest.
        opening = asyncio.timeout(None)

        def hurry(_: object) -> None:
            with suppress(RuntimeError):  # all are open already
                opening.reschedule(loop.time())

        asked = asyncio.ensure_future(self._order.asked.wait())
        try:
            async with opening:
                asked.add_done_callback(hurry)
                return await open_lifespans(stack, self._setup.lifespans)
        except TimeoutError:
            if opening.expired():
                return None
            raise
        finally:
            asked.cancel()

    async def _serve(self, parts: Parts) -> None:
        """Run the loops, in the order in which they may end: intake, then conclusions, then settlements."""
        hold, coordinated, intake = parts.hold, parts.coordinated, parts.intake
        async with anyio.create_task_group() as settling:
            for loop in (hold.settler, hold.leases, hold.maintenance):
                settling.start_soon(loop.run)
            for loop in (coordinated.claims, parts.visibility):
                if loop is not None:
                    settling.start_soon(loop.run)
            async with anyio.create_task_group() as concluding:
                concluding.start_soon(parts.concluder.run)
                concluding.start_soon(parts.canvas.errbacks.run)
                if parts.canvas.chords is not None:
                    concluding.start_soon(parts.canvas.chords.run, parts.concluder.put)
                concluding.start_soon(intake.dispatcher.run)
                concluding.start_soon(intake.dispatcher.return_overdue)
                concluding.start_soon(intake.gate.run)
                for loop in (coordinated.files, intake.suspects, parts.recorder):
                    if loop is not None:
                        concluding.start_soon(loop.run)
                if coordinated.revoker is not None:
                    concluding.start_soon(coordinated.revoker.run, parts.executor.terminate_revoked)
                async with anyio.create_task_group() as receiving:
                    receiving.start_soon(intake.receiver.run)
                    if self._setup.burst:
                        receiving.start_soon(self._stop_when_done, parts)
                    self._ready.set()
                    self._set_phase(Phase.READY)
                    await self._order.asked.wait()
                    receiving.cancel_scope.cancel()
                self._set_phase(Phase.STOPPING)
                await parts.ending.drain()
                concluding.cancel_scope.cancel()
            await parts.ending.hand_back()
            if self._flights is not None and (parts.hold.leases.held or not self._flights.is_empty):
                self._flights.set_phase(Phase.UNSETTLED)
            if parts.visibility is not None:
                await parts.visibility.leave()
            settling.cancel_scope.cancel()

    def _set_phase(self, phase: Phase) -> None:
        if self._flights is not None and not self._flights.condemned:
            self._flights.set_phase(phase)

    async def _stop_when_done(self, parts: Parts) -> None:
        """Burst: stop once the queues are empty and nothing is held. What is parked for later is left.

        It takes two looks in a row: a batch may be on its way here, which is neither ready nor held yet.
        """
        empty_looks = 0
        while empty_looks < 2:
            while not (self._flow.idle and parts.hold.leases.held == 0):
                await self._flow.change()
            ready = await self._ready_anywhere()
            empty_looks = empty_looks + 1 if self._flow.idle and parts.hold.leases.held == 0 and not ready else 0
            await anyio.sleep(0.05)
        self.stop()

    async def _ready_anywhere(self) -> bool:
        try:
            depths = [await self._setup.broker.depth(queue.name) for queue in self._setup.queues]
        except BrokerError:  # the receiver tells of it; an unknown depth is no empty queue
            return True
        return any(depth.ready for depth in depths)
