"""What a worker's process has above it."""

from __future__ import annotations

from msgspec import Struct


class Supervision(Struct, frozen=True, kw_only=True):
    """Ties a worker to its supervisor. `repr` doesn't show the brief, since it carries passwords."""

    #: Descriptor of the flight table, by which the worker tells how it goes.
    table: int
    #: Descriptor of the pipe's end by which the supervisor speaks: `T` stop, `N` stop now, its end: drain, and exit.
    control: int
    #: Left in the table for those who clean up after this process (`asyncq._brief`).
    brief: bytes = b""
    #: Tasks after which the process is worn out.
    max_tasks: int | None = None
    #: KiB of resident memory above which the process is worn out.
    max_memory: int | None = None

    def __repr__(self) -> str:
        return f"Supervision(table={self.table}, control={self.control})"
