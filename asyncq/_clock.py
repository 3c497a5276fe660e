"""The one place that reads clocks, rolls dice and makes ids.

Everything else takes an `Environment` as an argument, so that tests can run on virtual time with a seed. A lint rule
forbids the bare calls elsewhere.
"""

from __future__ import annotations

import os
import random
import time
import uuid

from asyncq.driver import Environment


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - here, and here only

    def wall(self) -> float:
        return time.time()  # noqa: TID251 - here, and here only


def new_id() -> str:
    """A random id as Celery makes them: UUID 4 as dashed text."""
    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def system_environment() -> Environment:
    """The machine's clocks and dice."""
    return Environment(clock=SystemClock(), random=random.Random(), new_id=new_id)  # noqa: S311 - for jitter
