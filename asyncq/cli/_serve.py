"""Runs a worker in this process, from arguments that are already parsed."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from asyncq._logs import configure_logging
from asyncq.cli._arguments import ChildArguments
from asyncq.cli._banner import announce
from asyncq.cli._failures import CommandError, ExitCode, report
from asyncq.cli._garbage import look_seldom, set_aside_what_is_there
from asyncq.cli._kinds import LoopKind
from asyncq.cli._locate import locate
from asyncq.cli._signals import stopped_by_signals

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.worker import Worker

logger = logging.getLogger(__name__)

#: Seconds by which a process ends itself before it is ended by force.
_TO_SPARE = 0.15
#: Seconds that a process has to end which dies of itself.
_FAREWELL = 5.0


def serve(child: ChildArguments) -> None:
    """Run the worker until it is told to stop or, in burst mode, its queues are empty.

    Raises what it could not be started for. What it died of is told, and is the exit code of the SystemExit that it
    raises then. Doesn't return when code of a task could not be ended: then the process exits from here.
    """
    arguments = child.worker
    node = None if arguments.name is None else f"{arguments.name}@{socket.gethostname()}"
    configure_logging(arguments.log_level, arguments.log_format, node=node, label=child.label)
    kind, loop_factory = _choose_loop(arguments.loop)
    look_seldom()
    queue = locate(arguments.app)
    set_aside_what_is_there()
    worker = queue.worker(
        queues=arguments.queues,
        concurrency=arguments.concurrency,
        name=arguments.name,
        burst=arguments.burst,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    _put_under_supervisor(worker, queue, child)
    if child.announce:
        announce(
            queue,
            worker,
            concurrency_from="--concurrency" if arguments.concurrency else queue.settings.origin("concurrency"),
            loop=kind,
            log_format=arguments.log_format,
        )
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(_run(worker))
        except Exception as failure:  # noqa: BLE001 - told here, since the end may take longer than there is time
            code = _tell(failure)
            if worker.abandoned:
                _leave(code)
            _leave_by(min(worker.patience, _FAREWELL), code)
            sys.exit(code)
        if worker.abandoned:
            _leave(ExitCode.OK)
        _leave_by(worker.patience)


async def _run(worker: Worker) -> None:
    with stopped_by_signals(worker):
        async with worker:
            logger.info("Ready")
            await worker.wait()
    done = {name: count for name in worker.stats.__struct_fields__ if (count := getattr(worker.stats, name))}
    logger.info("Ended", extra=done)


def _tell(failure: Exception) -> ExitCode:
    """Say what the worker has died of."""
    try:
        return report(failure)
    except Exception:
        logger.critical("The worker has died", exc_info=failure)
        return ExitCode.FAILED


def _leave_by(patience: float, code: ExitCode = ExitCode.OK) -> None:
    """Let Python end as it does, with what the app wants done at the exit, but no longer than for so many seconds.

    There may be threads of the app's own, which asyncio and Python wait for.
    """
    if patience < math.inf:
        timer = threading.Timer(max(patience - _TO_SPARE, _TO_SPARE), _leave, [code])
        timer.daemon = True
        timer.start()


def _leave(code: ExitCode) -> NoReturn:
    """End the process at once: asyncio would wait for a task that swallows its cancellation, Python for a thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _put_under_supervisor(worker: Worker, queue: AsyncQ, child: ChildArguments) -> None:
    from asyncq._brief import brief_of, encode_brief
    from asyncq._clock import system_environment
    from asyncq.worker import Supervision

    arguments, settings = child.worker, queue.settings
    brief = encode_brief(brief_of(queue.name, settings, now=system_environment().clock.wall()))
    worker.put_under(
        Supervision(
            table=child.flight_fd,
            control=child.control_fd,
            brief=brief,
            max_tasks=arguments.max_tasks_per_child or settings.max_tasks_per_child,
            max_memory=arguments.max_memory_per_child or settings.max_memory_per_child,
        )
    )
    os.close(child.flight_fd)  # it is mapped, and that stays


def _choose_loop(wanted: LoopKind) -> tuple[LoopKind, Callable[[], asyncio.AbstractEventLoop]]:
    if wanted is LoopKind.ASYNCIO or (wanted is LoopKind.AUTO and find_spec("uvloop") is None):
        return LoopKind.ASYNCIO, asyncio.new_event_loop
    try:
        import uvloop
    except ModuleNotFoundError:
        raise CommandError("uvloop is not installed: pip install 'asyncq[fast]'") from None
    return LoopKind.UVLOOP, uvloop.new_event_loop
