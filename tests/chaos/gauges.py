"""What a process costs, as Linux counts it."""

from __future__ import annotations

import os
from pathlib import Path


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process (this one) holds."""
    pages = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int | None = None) -> int:
    """Open files and sockets of a process (this one)."""
    return len(list(Path(f"/proc/{pid or os.getpid()}/fd").iterdir()))
