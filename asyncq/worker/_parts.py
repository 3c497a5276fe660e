"""What a worker is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asyncq._coordination import coordination_of
from asyncq._flight import FlightRecorder
from asyncq._middleware import around_run
from asyncq._resources import Resources
from asyncq._revoking import Revocations
from asyncq.driver import ConsumerOptions
from asyncq.errors import ConfigurationError
from asyncq.worker._attempt import Surroundings
from asyncq.worker._backoff import Backoff
from asyncq.worker._case_files import CaseFiles
from asyncq.worker._claims import Claims
from asyncq.worker._concluder import Concluder
from asyncq.worker._conclusion import Judge
from asyncq.worker._dispatcher import Dispatcher
from asyncq.worker._ending import Ending, StopOrder
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._journal import Journal
from asyncq.worker._leases import LeaseKeeper
from asyncq.worker._maintenance import Maintenance
from asyncq.worker._program import Program, compile_tasks
from asyncq.worker._rate_gate import RateGate
from asyncq.worker._receiver import Receiver
from asyncq.worker._recorder import Recorder
from asyncq.worker._revoker import Revoker
from asyncq.worker._settler import Settler
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._suspects import Suspects
from asyncq.worker._visibility import Visibility
from asyncq.worker._wear import Wear


class Parts:
    """A worker's parts, wired together, for one connection to its servers.

    `flights` and `wear` are there where a supervisor looks at them; `condemn` tells that the process must be replaced,
    `stop` asks for the worker's end.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        flow: Flow,
        resources: Resources,
        *,
        node: str,
        order: StopOrder,
        flights: FlightRecorder | None,
        wear: Wear | None,
        condemn: Callable[[str], None],
        stop: Callable[[], None],
    ) -> None:
        environment = setup.environment
        clock, dice = environment.clock, environment.random
        options = ConsumerOptions(node=node, lease=setup.lease, prefetch=2 * setup.concurrency)
        journal = Journal(flow.stats)
        programs = compile_tasks(setup)
        self.consumer = setup.broker.consume(setup.queues, options)
        self.leases = LeaseKeeper(self.consumer, clock, dice, setup.lease)
        self.settler = Settler(self.consumer, self.leases, flow, dice, flights=flights)
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
        self.revoker = None if coordination is None else Revoker(Revocations(coordination), flow, dice)
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
            flights=flights,
            wear=wear,
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
            flights=flights,
            condemn=condemn,
        )
        self.visibility = None
        if coordination is not None and not setup.broker.capabilities.fanout:
            self.visibility = Visibility(
                coordination,
                node=node,
                queues=[queue.name for queue in setup.queues],
                flow=flow,
                executor=self.executor,
                clock=clock,
                dice=dice,
                stop=stop,
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
        self.ending = Ending(
            order,
            kill_grace=setup.kill_grace,
            flow=flow,
            executor=self.executor,
            dispatcher=self.dispatcher,
            gate=self.gate,
            suspects=self.suspects,
            files=self.files,
            concluder=self.concluder,
            leases=self.leases,
            settler=self.settler,
            claims=self.claims,
        )


def _refuse_fleet_limits(programs: Mapping[str, Program], setup: WorkerSetup) -> None:
    for name, program in programs.items():
        if program.limit is not None and program.limit.fleet:
            where = setup.broker.address if setup.backend is None else setup.backend.address
            raise ConfigurationError(
                f'task {name!r} has limit_scope="fleet", which {where} cannot keep; '
                "use a Redis, SQLite or DynamoDB backend"
            )
