"""Quarantine: what may have killed a worker runs alone, where its death proves something and hurts nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from asyncq._definition import TaskDefinition
from asyncq.errors import WorkerLostError
from asyncq.worker._attempt import Attempt
from asyncq.worker._calls import Begin, Caller, Value
from asyncq.worker._isolated_run import Suspect, is_task, prepare, run_suspect
from asyncq.worker._outcome import Crashed, FoundElsewhere, Interrupted
from asyncq.worker._process import named
from asyncq.worker._processes import ProcessDied, ProcessPool

logger = logging.getLogger(__name__)

#: Seconds until the next one may run when one could not.
_PAUSE = 5.0

#: Seconds that a new process gets to import the app.
_IMPORTING = 60.0


class QuarantineCaller:
    """Runs suspects, `async def` and `def`, one at a time in a process that it keeps for them.

    The process imports the task's module and finds the app there: middleware, lifespans, progress and sends work as
    in a worker. When it dies, that speaks against the task, and against no other.
    """

    def __init__(self, node: str, otherwise: Callable[[Attempt], Caller]) -> None:
        """`otherwise` says how a task runs that can't be isolated after all."""
        self._node = node
        self._otherwise = otherwise
        self._processes = ProcessPool()
        self._place = asyncio.Semaphore(1)

    async def close(self) -> None:
        """Kill the process."""
        await self._processes.close()

    async def call(self, attempt: Attempt, begin: Begin) -> Value:
        """Raises FoundElsewhere with the outcome."""
        async with self._place:
            if not await self._is_prepared(attempt):
                return await self._otherwise(attempt).call(attempt, begin)
            suspicion, fn = attempt.suspicion, attempt.program.definition.fn
            assert suspicion is not None  # noqa: S101 - nobody else is quarantined
            suspicion.isolated = True
            await begin(attempt)
            suspect = Suspect(
                module=fn.__module__,
                qualname=fn.__qualname__,
                node=self._node,
                queue=attempt.delivery.queue,
                content=attempt.delivery.content,
            )
            try:
                report = await self._processes.run(run_suspect, suspect)
            except ProcessDied as died:
                suspicion.deaths.append(f"{died} in quarantine")
                raise FoundElsewhere(Crashed(WorkerLostError(str(died)))) from None
            except Exception as error:
                # What the task raises is in the report: this was the app, which could be set up before.
                logger.exception("%s can't be run in quarantine now", attempt, extra=attempt.log_fields())
                await asyncio.sleep(_PAUSE)
                raise FoundElsewhere(Interrupted()) from error
        attempt.children.extend(report.children)
        raise FoundElsewhere(report.outcome)

    async def _is_prepared(self, attempt: Attempt) -> bool:
        """Import its module there, and try its lifespans. What fails or dies of that is not the task's doing."""
        fn = attempt.program.definition.fn
        try:
            async with asyncio.timeout(_IMPORTING):
                if await self._processes.run(prepare, fn.__module__, fn.__qualname__):
                    return True
            reason: object = "there is no task under its name"
        except Exception as error:  # noqa: BLE001 - what a module raises when it is imported may be anything
            reason = error
        logger.warning("%s can't be quarantined and runs among others: %r", attempt, reason, extra=attempt.log_fields())
        return False


def can_be_isolated(definition: TaskDefinition) -> bool:
    """Whether another process can find the task by the name of its function; a closure can't be found."""
    try:
        return is_task(named(definition.fn.__module__, definition.fn.__qualname__), definition)
    except Exception:  # noqa: BLE001 - looking up a name may run code of the user's (a module's, a property's)
        return False
