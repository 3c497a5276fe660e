"""How many processes this machine has room for."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["usable_cores"]

#: Where a container's share of the processor stands: microseconds, of a period in microseconds ("max": all of it).
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Cores that this process may run on and, in a container, may keep busy: at least 1."""
    # Where the system knows no affinity (macOS), every core will do.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if share == "max" else max(1, min(cores, round(int(share) / int(period))))
