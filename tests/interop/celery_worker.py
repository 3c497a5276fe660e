"""A real Celery worker that a test starts and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaos.ledger import Ledger
from processes import Program
from waiting import Gate


class CeleryWorker(Program):
    """One process of `interop.celery_program`: it serves one queue of one database, one task at a time."""

    def __init__(
        self, url: str, folder: Path, *, queue: str = "celery", backend: str | None = None, **conf: Any
    ) -> None:
        """`folder` is where its ledger and its gates are; `conf` are Celery's settings. Results go to `url`, too."""
        self.url = url
        self.queue = queue
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        config = {"url": url, "backend": backend or url, "queue": queue, "ledger": str(self.ledger.path), "conf": conf}
        # Celery and what it stands on warn of themselves.
        super().__init__("interop.celery_program", config, strict=False)

    def gate(self, name: str) -> Gate:
        """A gate for the task of this name; its path is what the task is called with."""
        return Gate(self.folder / f"gate-{name}")
