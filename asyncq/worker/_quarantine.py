"""Quarantine: what may have killed a worker runs alone, where its death proves something and hurts nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from asyncq._definition import TaskDefinition
from asyncq.errors import WorkerLostError
from asyncq.worker._attempt import Attempt
from asyncq.worker._calls import Begin, Caller, Value
from asyncq.worker._isolated_run import Report, Suspect, is_task, prepare, run_suspect
from asyncq.worker._outcome import Crashed, FoundElsewhere, Interrupted
from asyncq.worker._process import named
from asyncq.worker._processes import PooledProcess, ProcessDied, ProcessPool

logger = logging.getLogger(__name__)

#: Seconds until the next one may run when one could not.
_PAUSE = 5.0

#: Seconds that a new process gets to import the app.
_IMPORTING = 60.0


class _NotIsolated(Exception):
    """It can't be quarantined; the text says why."""


class _ProvesNothing(Exception):
    """The process died, and others had run in it before, which may have left something behind that killed it."""


class QuarantineCaller:
    """Runs suspects, `async def` and `def`, each alone in a process that is kept for the next one.

    How many at a time is the dispatcher's business. The process imports the task's module and finds the app there:
    middleware, lifespans, progress and sends work as in a worker. When it dies, that speaks against the task, and
    against no other: where others have run in it before, the task runs again in a new one first.
    """

    def __init__(self, node: str, otherwise: Callable[[Attempt], Caller]) -> None:
        """`otherwise` says how a task runs that can't be isolated after all."""
        self._node = node
        self._otherwise = otherwise
        self._processes = ProcessPool()

    async def close(self) -> None:
        """Kill the processes."""
        await self._processes.close()

    async def call(self, attempt: Attempt, begin: Begin) -> Value:
        """Raises FoundElsewhere with the outcome."""
        try:
            report = await self._report_of(attempt, begin)
        except _NotIsolated as reason:
            logger.warning("%s can't be quarantined now: %s", attempt, reason, extra=attempt.log_fields())
            if attempt.started_at is not None:  # it can't begin twice
                raise FoundElsewhere(Interrupted()) from reason
            return await self._otherwise(attempt).call(attempt, begin)
        attempt.children.extend(report.children)
        raise FoundElsewhere(report.outcome)

    async def _report_of(self, attempt: Attempt, begin: Begin) -> Report:
        suspicion = attempt.suspicion
        assert suspicion is not None  # noqa: S101 - nobody else is quarantined
        # What is acknowledged before it runs can't run again, and what was convicted before will need a new one anyway.
        new = not attempt.program.acks_late or len(suspicion.deaths) > 1
        unproved: list[str] = []
        while True:
            async with self._processes.process(new=new) as process:
                try:
                    await self._prepare(process, attempt)
                    if attempt.started_at is None:
                        suspicion.isolated = True
                        await begin(attempt)
                    return await self._run(process, attempt, unproved)
                except ProcessDied as died:
                    # It was alone, so that was its doing; and then the death before, in company, was as well.
                    suspicion.deaths += [*unproved, f"{died} in quarantine"]
                    raise FoundElsewhere(Crashed(WorkerLostError(str(died)))) from None
                except _ProvesNothing as died:
                    logger.warning(
                        "%s runs again: %s, and others had run in it", attempt, died, extra=attempt.log_fields()
                    )
                    new = True

    async def _prepare(self, process: PooledProcess, attempt: Attempt) -> None:
        """Import its module there, and try its lifespans. What fails or dies of that is not the task's doing."""
        fn = attempt.program.definition.fn
        try:
            async with asyncio.timeout(_IMPORTING):
                found = await process.run(prepare, fn.__module__, fn.__qualname__)
        except Exception as error:
            if isinstance(error, ProcessDied) and process.used:
                raise _ProvesNothing(str(error)) from None
            raise _NotIsolated(repr(error)) from error
        if not found:
            raise _NotIsolated("there is no task under its name")

    async def _run(self, process: PooledProcess, attempt: Attempt, unproved: list[str]) -> Report:
        """Raises ProcessDied when that was this task's doing; else its death is added to `unproved`."""
        fn = attempt.program.definition.fn
        suspect = Suspect(
            module=fn.__module__,
            qualname=fn.__qualname__,
            node=self._node,
            queue=attempt.delivery.queue,
            content=attempt.delivery.content,
        )
        used, process.used = process.used, True
        try:
            return await process.run(run_suspect, suspect)
        except ProcessDied as died:
            if used:
                unproved.append(f"{died} in quarantine")
                raise _ProvesNothing(str(died)) from None
            raise
        except Exception as error:
            # What the task raises is in the report: this was the app, which could be set up before.
            logger.exception("%s can't be run in quarantine now", attempt, extra=attempt.log_fields())
            await asyncio.sleep(_PAUSE)
            raise FoundElsewhere(Interrupted()) from error


def can_be_isolated(definition: TaskDefinition) -> bool:
    """Whether another process can find the task by the name of its function; a closure can't be found."""
    try:
        return is_task(named(definition.fn.__module__, definition.fn.__qualname__), definition)
    except Exception:  # noqa: BLE001 - looking up a name may run code of the user's (a module's, a property's)
        return False
