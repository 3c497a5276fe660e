"""What a delivery passes before it runs."""

from __future__ import annotations

from collections.abc import Mapping

from asyncq.driver import Coordination
from asyncq.worker._adoption import Adoption
from asyncq.worker._attempt import Surroundings
from asyncq.worker._concluder import Concluder
from asyncq.worker._coordinated import Coordinated
from asyncq.worker._dispatcher import Dispatcher
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._hold import Hold
from asyncq.worker._journal import Journal
from asyncq.worker._judge import Judge
from asyncq.worker._past import Past
from asyncq.worker._program import Program
from asyncq.worker._rate_gate import RateGate
from asyncq.worker._receiver import Receiver
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._suspects import DeliveryCounts, Suspects


class Intake:
    """The receiver takes it, the suspects are looked up, the gate keeps rates, the dispatcher waits for a slot."""

    def __init__(
        self,
        *,
        setup: WorkerSetup,
        programs: Mapping[str, Program],
        surroundings: Surroundings,
        coordination: Coordination | None,
        hold: Hold,
        coordinated: Coordinated,
        flow: Flow,
        judge: Judge,
        journal: Journal,
        concluder: Concluder,
        executor: Executor,
    ) -> None:
        clock, settler, park_due = setup.environment.clock, hold.settler, hold.maintenance.due
        self.dispatcher = Dispatcher(executor, settler, flow, clock=clock, park_due=park_due)
        self.gate = RateGate(
            coordination=coordination,
            settler=settler,
            flow=flow,
            clock=clock,
            admit=self.dispatcher.admit,
            park_due=park_due,
        )
        # Where leases end by themselves, a count says too little: every worker that slept adds to it. And somebody else
        # may have what runs here without its lease.
        by_connection = setup.broker.capabilities.shared and not setup.broker.capabilities.leases
        self.suspects = counts = None
        most = setup.max_deliveries
        if (files := coordinated.files) is None:
            if by_connection:
                counts = DeliveryCounts(max_deliveries=most)
        else:
            self.suspects = Suspects(
                files,
                Past(setup.backend, accept={*setup.accept, setup.result_serializer}, limits=setup.limits),
                concluder=concluder,
                settler=settler,
                flow=flow,
                max_deliveries=most,
                by_connection=by_connection,
            )
        self.receiver = Receiver(
            setup=setup,
            programs=programs,
            surroundings=surroundings,
            hold=hold,
            flow=flow,
            judge=judge,
            journal=journal,
            concluder=concluder,
            dispatcher=self.dispatcher,
            gate=self.gate,
            revoker=coordinated.revoker,
            suspects=self.suspects,
            counts=counts,
            adoption=Adoption(hold, executor) if by_connection else None,
        )

    def give_back(self) -> None:
        """Return what has not started to its queue."""
        self.dispatcher.give_back()
        self.gate.give_back()
        if self.suspects is not None:
            self.suspects.give_back()
