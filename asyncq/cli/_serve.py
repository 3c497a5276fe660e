"""Runs a worker in this process, from arguments that are already parsed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from asyncq._logs import configure_logging
from asyncq.cli._arguments import ChildArguments, WorkerArguments
from asyncq.cli._banner import announce
from asyncq.cli._failures import CommandError
from asyncq.cli._garbage import look_seldom, set_aside_what_is_there
from asyncq.cli._kinds import LoopKind
from asyncq.cli._locate import locate
from asyncq.cli._signals import stopped_by_signals

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.worker import Worker

logger = logging.getLogger(__name__)


def serve(arguments: WorkerArguments, child: ChildArguments | None = None) -> None:
    """Run the worker until it is told to stop or, in burst mode, its queues are empty. Raises what it died of."""
    configure_logging(arguments.log_level, arguments.log_format)
    kind, loop_factory = _choose_loop(arguments.loop)
    look_seldom()
    queue = locate(arguments.app)
    set_aside_what_is_there()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(queue, arguments, child, kind))


async def _serve(queue: AsyncQ, arguments: WorkerArguments, child: ChildArguments | None, loop: LoopKind) -> None:
    worker = queue.worker(
        queues=arguments.queues,
        concurrency=arguments.concurrency,
        name=arguments.name,
        burst=arguments.burst,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    if child is not None:
        _put_under_supervisor(worker, queue, child)
    if child is None or child.announce:
        announce(
            queue,
            worker,
            concurrency_from="--concurrency" if arguments.concurrency else queue.settings.origin("concurrency"),
            loop=loop,
            log_format=arguments.log_format,
        )
    with stopped_by_signals(worker):
        async with worker:
            logger.info("Ready")
            await worker.wait()
    done = {name: count for name in worker.stats.__struct_fields__ if (count := getattr(worker.stats, name))}
    logger.info("Ended", extra=done)


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


def _choose_loop(wanted: LoopKind) -> tuple[LoopKind, Callable[[], asyncio.AbstractEventLoop]]:
    if wanted is LoopKind.ASYNCIO or (wanted is LoopKind.AUTO and find_spec("uvloop") is None):
        return LoopKind.ASYNCIO, asyncio.new_event_loop
    try:
        import uvloop
    except ModuleNotFoundError:
        raise CommandError("uvloop is not installed: pip install 'asyncq[fast]'") from None
    return LoopKind.UVLOOP, uvloop.new_event_loop
