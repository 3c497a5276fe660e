"""Signals as a worker's process understands them when they are meant for it and not for its supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncq.worker import Worker

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@contextmanager
def stopped_by_signals(worker: Worker) -> Generator[None]:
    """While the block runs, the first signal lets running tasks end, and the second one doesn't wait for them.

    SIGQUIT doesn't wait either; nor does SIGTERM where `REMAP_SIGTERM=SIGQUIT` is in the environment, as Celery has it
    for hosts that can't send another signal.
    """
    loop = asyncio.get_running_loop()
    impatient = {signal.SIGQUIT}
    if os.environ.get("REMAP_SIGTERM") == "SIGQUIT":
        impatient.add(signal.SIGTERM)
    asked = False

    def stop(number: int) -> None:
        nonlocal asked
        name = signal.Signals(number).name
        if asked:
            logger.warning("%s again: stopping at once", name)
        elif number in impatient:
            logger.warning("%s: stopping at once", name)
        else:
            logger.info("%s: taking nothing new, finishing what runs; once more stops at once", name)
        worker.stop(now=asked or number in impatient)
        asked = True

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
