"""What a worker is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asyncq._coordination import coordination_of
from asyncq._flight import FlightRecorder
from asyncq._resources import Resources
from asyncq.errors import ConfigurationError
from asyncq.worker._attempt import Surroundings
from asyncq.worker._canvas import set_up_canvas
from asyncq.worker._concluder import Concluder
from asyncq.worker._coordinated import coordinate
from asyncq.worker._ending import Ending, StopOrder
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._hold import take_hold
from asyncq.worker._intake import Intake
from asyncq.worker._journal import Journal
from asyncq.worker._judge import Judge
from asyncq.worker._program import Program
from asyncq.worker._record_encoder import RecordEncoder
from asyncq.worker._recorder import InterimStates, Recorder
from asyncq.worker._setup import WorkerSetup
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
        coordination = coordination_of(setup.backend, setup.broker)
        records = RecordEncoder(setup, node=node)
        self.canvas = canvas = set_up_canvas(setup, records, coordination, flow)
        if coordination is None:
            _refuse_fleet_limits(canvas.programs, setup)
        journal, judge = Journal(flow.stats), Judge(setup, records, canvas.continuation)
        self.hold = hold = take_hold(setup, flow, node=node, flights=flights)
        self.coordinated = coordinated = coordinate(setup, coordination, flow, node=node)
        self.recorder = None if setup.backend is None else Recorder(setup.backend, setup.environment.random)
        self.concluder = Concluder(
            setup=setup,
            judge=judge,
            journal=journal,
            recorder=self.recorder,
            canvas=canvas,
            hold=hold,
            coordinated=coordinated,
            flow=flow,
            flights=flights,
            wear=wear,
        )
        self.executor = Executor(
            setup=setup,
            node=node,
            concluder=self.concluder,
            hold=hold,
            coordinated=coordinated,
            flow=flow,
            flights=flights,
            condemn=condemn,
        )
        self.visibility = None
        if coordination is not None and not setup.broker.capabilities.fanout:
            self.visibility = Visibility(
                coordination,
                setup,
                node=node,
                flow=flow,
                executor=self.executor,
                revoker=coordinated.revoker,
                stop=stop,
            )
        self.intake = Intake(
            setup=setup,
            programs=canvas.programs,
            surroundings=Surroundings(
                node, InterimStates(records, self.recorder), setup.limits, resources, canvas.courier
            ),
            coordination=coordination,
            hold=hold,
            coordinated=coordinated,
            flow=flow,
            judge=judge,
            journal=journal,
            concluder=self.concluder,
            executor=self.executor,
        )
        self.ending = Ending(
            order,
            kill_grace=setup.kill_grace,
            hold=hold,
            coordinated=coordinated,
            flow=flow,
            intake=self.intake,
            executor=self.executor,
            concluder=self.concluder,
        )


def _refuse_fleet_limits(programs: Mapping[str, Program], setup: WorkerSetup) -> None:
    for name, program in programs.items():
        if program.limit is not None and program.limit.fleet:
            where = setup.broker.address if setup.backend is None else setup.backend.address
            raise ConfigurationError(
                f'task {name!r} has limit_scope="fleet", which {where} cannot keep; '
                "use a Redis, SQLite or DynamoDB backend"
            )
