"""A worker: its parts put together, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio

from asyncq._coordination import coordination_of
from asyncq._flight import FlightRecorder, Phase
from asyncq._middleware import around_run
from asyncq._resources import Resources, open_lifespans
from asyncq._revoking import Revocations
from asyncq.driver import ConsumerOptions, Queue, Requeue
from asyncq.errors import BackendConnectionError, BrokerConnectionError, BrokerError, ConfigurationError
from asyncq.worker._attempt import Surroundings
from asyncq.worker._backoff import Backoff
from asyncq.worker._case_files import CaseFiles
from asyncq.worker._claims import Claims
from asyncq.worker._concluder import Concluder
from asyncq.worker._conclusion import Judge
from asyncq.worker._dispatcher import Dispatcher
from asyncq.worker._executor import Executor
from asyncq.worker._flow import LEAST_CONCLUDING, Flow, WorkerStats
from asyncq.worker._journal import Journal
from asyncq.worker._leases import LeaseKeeper
from asyncq.worker._maintenance import Maintenance
from asyncq.worker._outcome import Interrupted
from asyncq.worker._program import Program, compile_tasks
from asyncq.worker._rate_gate import RateGate
from asyncq.worker._receiver import Receiver
from asyncq.worker._recorder import Recorder
from asyncq.worker._revoker import Revoker
from asyncq.worker._settler import Settler
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._supervision import Supervision
from asyncq.worker._suspects import Suspects
from asyncq.worker._watch import ControlPipe, Pulse

logger = logging.getLogger("asyncq.worker")


class _Parts:
    """What a worker is made of, wired together, for one connection to its servers."""

    def __init__(self, setup: WorkerSetup, flow: Flow, resources: Resources, *, node: str) -> None:
        environment = setup.environment
        clock, dice = environment.clock, environment.random
        options = ConsumerOptions(node=node, lease=setup.lease, prefetch=2 * setup.concurrency)
        journal = Journal(flow.stats)
        programs = compile_tasks(setup)
        self.consumer = setup.broker.consume(setup.queues, options)
        self.leases = LeaseKeeper(self.consumer, clock, dice, setup.lease)
        self.settler = Settler(self.consumer, self.leases, flow, dice)
        self.maintenance = Maintenance(self.consumer, clock, dice)
        self.recorder = None if setup.backend is None else Recorder(setup.backend, dice)
        judge = Judge(setup, node=node)
        coordination = coordination_of(setup.backend, setup.broker)
        if coordination is None:
            _refuse_fleet_limits(programs, setup)
        self.claims = None if coordination is None else Claims(coordination, flow, dice)
        self.files = None
        # Messages that die with their process leave nobody to suspect.
        if coordination is not None and setup.broker.capabilities.shared:
            self.files = CaseFiles(coordination, Backoff(dice), clock, node=node)
        self.revoker = None if coordination is None else Revoker(Revocations(coordination), dice)
        self.concluder = Concluder(
            judge=judge,
            broker=setup.broker,
            recorder=self.recorder,
            leases=self.leases,
            settler=self.settler,
            maintenance=self.maintenance,
            claims=self.claims,
            files=self.files,
            flow=flow,
            journal=journal,
            backoff=Backoff(dice),
        )
        self.executor = Executor(
            concluder=self.concluder,
            settler=self.settler,
            leases=self.leases,
            flow=flow,
            revoker=self.revoker,
            claims=self.claims,
            files=self.files,
            around=around_run(setup.middleware),
            clock=clock,
            node=node,
            threads=setup.threads,
            kill_grace=setup.kill_grace,
        )
        self.suspects = None
        if self.files is not None:
            self.suspects = Suspects(
                self.files,
                concluder=self.concluder,
                settler=self.settler,
                flow=flow,
                max_deliveries=setup.max_deliveries,
            )
        self.dispatcher = Dispatcher(self.executor, self.settler, flow, clock=clock, park_due=self.maintenance.due)
        self.gate = RateGate(
            coordination=coordination,
            settler=self.settler,
            flow=flow,
            clock=clock,
            admit=self.dispatcher.admit,
            park_due=self.maintenance.due,
        )
        self.receiver = Receiver(
            consumer=self.consumer,
            programs=programs,
            judge=judge,
            concluder=self.concluder,
            dispatcher=self.dispatcher,
            gate=self.gate,
            leases=self.leases,
            maintenance=self.maintenance,
            settler=self.settler,
            flow=flow,
            journal=journal,
            revoker=self.revoker,
            suspects=self.suspects,
            backoff=Backoff(dice),
            clock=clock,
            surroundings=Surroundings(node, self.concluder, setup.limits, resources),
            accept=setup.accept,
        )


def _refuse_fleet_limits(programs: Mapping[str, Program], setup: WorkerSetup) -> None:
    for name, program in programs.items():
        if program.limit is not None and program.limit.fleet:
            where = setup.broker.address if setup.backend is None else setup.backend.address
            raise ConfigurationError(
                f'task {name!r} has limit_scope="fleet", which {where} cannot keep; use a Redis or SQLite backend'
            )


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
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._supervision: Supervision | None = None
        self._flights: FlightRecorder | None = None
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
        return self._setup.concurrency

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
        self._stop.set()
        if now:
            self._stop_now.set()
            self._flow.notify()

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
        self._flights = FlightRecorder(
            supervision.table,
            slots=4 * max(setup.concurrency, LEAST_CONCLUDING),
            stall_timeout=setup.stall_timeout,
            shutdown_timeout=setup.shutdown_timeout,
            kill_grace=setup.kill_grace,
            brief=supervision.brief,
        )

    # -- the worker's own task ----------------------------------------------------------------------------------

    async def _main(self) -> None:
        setup = self._setup
        async with AsyncExitStack() as stack:
            self._watch(stack)
            stack.push_async_callback(setup.broker.close)
            if setup.backend is not None:
                stack.push_async_callback(setup.backend.close)
            if await self._open():
                resources = await open_lifespans(stack, setup.lifespans)
                await self._work(_Parts(setup, self._flow, resources, node=self.node))

    def _watch(self, stack: AsyncExitStack) -> None:
        if self._flights is None or self._supervision is None:
            return
        stack.enter_context(Pulse(self._setup.environment.clock, beat=self._flights.beat))
        stack.enter_context(ControlPipe(self._supervision.control, stop=self._obey, orphaned=lambda: None))

    def _obey(self, now: bool) -> None:
        self.stop(now=now)

    async def _work(self, parts: _Parts) -> None:
        try:
            await self._serve(parts)
        finally:
            # Nothing runs any more, unless a fault of ours or of a driver's has brought us here.
            parts.executor.interrupt()
            await parts.executor.join(self._setup.kill_grace)
            await parts.executor.close()
            await parts.consumer.close()

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
                    await self._stop.wait()
                    return False
            else:
                return True

    async def _serve(self, parts: _Parts) -> None:
        """Run the loops, in the order in which they may end: intake, then conclusions, then settlements."""
        async with anyio.create_task_group() as settling:
            for loop in (parts.settler, parts.leases, parts.maintenance):
                settling.start_soon(loop.run)
            if parts.claims is not None:
                settling.start_soon(parts.claims.run)
            async with anyio.create_task_group() as concluding:
                concluding.start_soon(parts.concluder.run)
                concluding.start_soon(parts.dispatcher.run)
                concluding.start_soon(parts.gate.run)
                for loop in (parts.files, parts.suspects):
                    if loop is not None:
                        concluding.start_soon(loop.run)
                if parts.recorder is not None:
                    concluding.start_soon(parts.recorder.run)
                if parts.revoker is not None:
                    concluding.start_soon(parts.revoker.run, parts.executor.terminate_revoked)
                async with anyio.create_task_group() as intake:
                    intake.start_soon(parts.receiver.run)
                    if self._setup.burst:
                        intake.start_soon(self._stop_when_done, parts)
                    self._ready.set()
                    self._set_phase(Phase.READY)
                    await self._stop.wait()
                    intake.cancel_scope.cancel()
                self._set_phase(Phase.STOPPING)
                await self._drain(parts)
                concluding.cancel_scope.cancel()
            await self._hand_back(parts)
            settling.cancel_scope.cancel()

    def _set_phase(self, phase: Phase) -> None:
        if self._flights is not None:
            self._flights.set_phase(phase)

    async def _stop_when_done(self, parts: _Parts) -> None:
        """Burst: stop once the queues are empty and nothing is held. What is parked for later is left.

        It takes two looks in a row: a batch may be on its way here, which is neither ready nor held yet.
        """
        empty_looks = 0
        while empty_looks < 2:
            while not (self._flow.idle and parts.leases.held == 0):
                await self._flow.change()
            ready = await self._ready_anywhere()
            empty_looks = empty_looks + 1 if self._flow.idle and parts.leases.held == 0 and not ready else 0
            await anyio.sleep(0.05)
        self.stop()

    async def _ready_anywhere(self) -> bool:
        try:
            depths = [await self._setup.broker.depth(queue.name) for queue in self._setup.queues]
        except BrokerError:  # the receiver tells of it; an unknown depth is no empty queue
            return True
        return any(depth.ready for depth in depths)

    async def _drain(self, parts: _Parts) -> None:
        """Let running tasks end within `shutdown_timeout`, cancel the rest, conclude what has ended."""
        flow, timeout = self._flow, self._setup.shutdown_timeout
        parts.executor.refuse_starts()
        parts.dispatcher.give_back()
        parts.gate.give_back()
        if parts.suspects is not None:
            parts.suspects.give_back()
        if flow.running:
            logger.info("Stopping: %d tasks get %g s to end", flow.running, timeout)
            with anyio.move_on_after(timeout):
                await self._until_none_runs()
        if flow.running:
            logger.info("Stopping: %d tasks are interrupted and handed back", flow.running)
            parts.executor.interrupt()
            with anyio.move_on_after(self._setup.kill_grace):
                await self._until_none_runs(ignore_stop_now=True)
        abandoned = parts.executor.abandon()
        for attempt in abandoned:
            logger.warning("%r did not end when it was cancelled; it is given up", attempt)
            if attempt.acknowledged:  # nobody else will run it; what is not acknowledged goes back with the rest
                parts.concluder.put((attempt, Interrupted()))
        if parts.files is not None and abandoned:
            with anyio.move_on_after(self._setup.kill_grace / 2):
                await parts.files.rest(abandoned)
        with anyio.move_on_after(self._setup.kill_grace / 2):
            while flow.concluding:
                await flow.change()
        if flow.concluding:
            logger.warning("%d outcomes could not be stored or sent in time", flow.concluding)

    async def _hand_back(self, parts: _Parts) -> None:
        """See the last settlements off; whatever is held then did not end, or could not be stored."""
        with anyio.move_on_after(self._setup.kill_grace / 2):
            while parts.settler.busy:
                await self._flow.change()
            for delivery in reversed(parts.leases.deliveries):  # each goes to the front: the oldest last
                parts.settler.put(Requeue(delivery, front=True))
            while parts.leases.held:
                await self._flow.change()
        if parts.leases.held:
            logger.warning("%d deliveries are unsettled; they come back when their lease ends", parts.leases.held)
        if parts.claims is not None:
            with anyio.move_on_after(self._setup.kill_grace / 2):
                while parts.claims.busy:
                    await self._flow.change()

    async def _until_none_runs(self, *, ignore_stop_now: bool = False) -> None:
        while self._flow.running and (ignore_stop_now or not self._stop_now.is_set()):
            await self._flow.change()
