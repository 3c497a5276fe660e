"""What a worker does about canvases: the parts of it, wired together."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from asyncq.driver import Coordination, Joining
from asyncq.worker._builtins import Builtins
from asyncq.worker._chords import ChordKeeper
from asyncq.worker._continuation import Continuation
from asyncq.worker._courier import Courier
from asyncq.worker._errbacks import ErrbackRunner
from asyncq.worker._flow import Flow
from asyncq.worker._mailer import Mailer
from asyncq.worker._program import Program, compile_task, compile_tasks
from asyncq.worker._record_encoder import RecordEncoder
from asyncq.worker._setup import WorkerSetup


class Canvas(Struct, frozen=True, eq=False):
    """Decides what follows from tasks, and has it done."""

    #: All tasks of the worker, by name: the app's, and those that each worker has.
    programs: Mapping[str, Program]
    continuation: Continuation
    errbacks: ErrbackRunner
    courier: Courier
    #: None where the result backend can't join chords.
    chords: ChordKeeper | None


def set_up_canvas(setup: WorkerSetup, records: RecordEncoder, coordination: Coordination | None, flow: Flow) -> Canvas:
    continuation = Continuation(setup, records, Mailer(setup.producer, setup.tasks), setup.tasks)
    chords = None
    if isinstance(setup.backend, Joining):
        chords = ChordKeeper(setup.backend.chords, setup, continuation)
    programs: dict[str, Program] = {}
    builtins = Builtins(setup, programs, continuation, coordination)
    programs |= {name: compile_task(definition, setup) for name, definition in builtins.definitions().items()}
    programs |= compile_tasks(setup)
    return Canvas(
        programs=programs,
        continuation=continuation,
        errbacks=ErrbackRunner(flow),
        courier=Courier(setup.broker, chords, continuation, setup.environment.random),
        chords=chords,
    )
