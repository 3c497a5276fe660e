"""Signals as a worker's process understands them when they are meant for it and not for its supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asyncq._stop_signals import STOPPING, means_at_once

if TYPE_CHECKING:
    from asyncq.worker import Worker

logger = logging.getLogger(__name__)


@contextmanager
def stopped_by_signals(worker: Worker) -> Generator[None]:
    """While the block runs, the first signal lets running tasks end, and the second one doesn't wait for them.

    SIGQUIT doesn't wait either; nor does SIGTERM where `REMAP_SIGTERM=SIGQUIT` is in the environment, as Celery has it
    for hosts that can't send another signal.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def stop(number: int) -> None:
        nonlocal asked
        name, at_once = signal.Signals(number).name, means_at_once(number, os.environ)
        if asked:
            logger.warning("%s again: stopping at once", name)
        elif at_once:
            logger.warning("%s: stopping at once", name)
        else:
            logger.info("%s: taking nothing new, finishing what runs; once more stops at once", name)
        worker.stop(now=asked or at_once)
        asked = True

    for number in STOPPING:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)
