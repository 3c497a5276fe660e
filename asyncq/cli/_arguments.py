"""What crosses to a worker's process: from the command line through the supervisor, as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from asyncq.cli._kinds import LogFormat, LogLevel, LoopKind

# `Any` below: the values of a JSON document.


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerArguments:
    """What the command line says. None means: as the app's settings say."""

    app: str
    queues: tuple[str, ...] | None = None
    #: Of each process.
    concurrency: int | None = None
    name: str | None = None
    burst: bool = False
    #: Seconds.
    shutdown_timeout: float | None = None
    #: Tasks after which a process is replaced.
    max_tasks_per_child: int | None = None
    #: KiB of resident memory above which a process is replaced.
    max_memory_per_child: int | None = None
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT
    loop: LoopKind = LoopKind.AUTO

    def to_document(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Read what `to_document` made; whatever else stands in it is left alone."""
        known: dict[str, Any] = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        if known.get("queues") is not None:
            known["queues"] = tuple(known["queues"])
        for name, kind in (("log_level", LogLevel), ("log_format", LogFormat), ("loop", LoopKind)):
            if name in known:
                known[name] = kind(known[name])
        return cls(**known)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildArguments:
    """What one process of a worker is told."""

    worker: WorkerArguments
    #: The flight table's descriptor (`asyncq._flight`).
    flight_fd: int
    #: The end to read of the pipe by which the supervisor speaks.
    control_fd: int
    #: Say who one is, and what one serves.
    announce: bool = True
    #: Tells its lines in the log from those of its siblings; None where it has none.
    label: str | None = None

    def to_document(self) -> dict[str, Any]:
        """As JSON knows it: the worker's arguments, and beside them the process's own."""
        own = {name: getattr(self, name) for name in ("flight_fd", "control_fd", "announce", "label")}
        return self.worker.to_document() | own

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Raises KeyError for a document that doesn't say what it must."""
        return cls(
            worker=WorkerArguments.from_document(document),
            flight_fd=document["flight_fd"],
            control_fd=document["control_fd"],
            announce=document.get("announce", True),
            label=document.get("label"),
        )
