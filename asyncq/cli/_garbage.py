"""What a worker's process asks of the garbage collector.

Hundreds of tasks are under way at any moment, so Python's defaults, which look for cycles each time that 700 objects
more are alive, look in vain most of the time, and now and then through everything that was ever imported. The two steps
here took 6 to 18 % of the processor time of a task that does nothing (Redis, measured), and pauses of the loop. An
embedded worker leaves the collector alone: the process is somebody else's.
"""

from __future__ import annotations

import gc

#: Objects that must have come to be, and not gone, before the young are looked through; then how often the older are.
_THRESHOLDS = (10_000, 20, 20)


def look_seldom() -> None:
    """Look for garbage less often. Called before the app is imported, so that the app may say otherwise."""
    gc.set_threshold(*_THRESHOLDS)


def set_aside_what_is_there() -> None:
    """Never look again at what exists now: modules, classes, the app."""
    gc.collect()
    gc.freeze()
