"""Runs a worker in this process, from arguments that are already parsed.

It stands apart from the command so that a supervisor can start it in a process of its own: `WorkerArguments` is all
that crosses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from asyncq.cli._banner import announce
from asyncq.cli._failures import CommandError
from asyncq.cli._garbage import look_seldom, set_aside_what_is_there
from asyncq.cli._locate import locate
from asyncq.cli._logs import configure_logging
from asyncq.cli._options import LogFormat, LogLevel, LoopKind
from asyncq.cli._signals import stopped_by_signals

if TYPE_CHECKING:
    from asyncq import AsyncQ

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerArguments:
    """What the command line says. None means: as the app's settings say."""

    app: str
    queues: tuple[str, ...] | None
    concurrency: int | None
    name: str | None
    burst: bool
    #: Seconds.
    shutdown_timeout: float | None
    log_level: LogLevel
    log_format: LogFormat
    loop: LoopKind


def serve(arguments: WorkerArguments) -> None:
    """Run the worker until a signal stops it or, in burst mode, its queues are empty. Raises what it died of."""
    configure_logging(arguments.log_level, arguments.log_format)
    kind, loop_factory = _choose_loop(arguments.loop)
    look_seldom()
    queue = locate(arguments.app)
    set_aside_what_is_there()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(queue, arguments, kind))


async def _serve(queue: AsyncQ, arguments: WorkerArguments, loop: LoopKind) -> None:
    worker = queue.worker(
        queues=arguments.queues,
        concurrency=arguments.concurrency,
        name=arguments.name,
        burst=arguments.burst,
        shutdown_timeout=arguments.shutdown_timeout,
    )
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


def _choose_loop(wanted: LoopKind) -> tuple[LoopKind, Callable[[], asyncio.AbstractEventLoop]]:
    if wanted is LoopKind.ASYNCIO or (wanted is LoopKind.AUTO and find_spec("uvloop") is None):
        return LoopKind.ASYNCIO, asyncio.new_event_loop
    try:
        import uvloop
    except ModuleNotFoundError:
        raise CommandError("uvloop is not installed: pip install 'asyncq[fast]'") from None
    return LoopKind.UVLOOP, uvloop.new_event_loop
