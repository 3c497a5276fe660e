"""The signals that ask for the end, as a worker's process and its supervisor understand them alike."""

from __future__ import annotations

import signal
from collections.abc import Mapping

__all__ = ["STOPPING", "means_at_once"]

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def means_at_once(number: int, environment: Mapping[str, str]) -> bool:
    """Whether the first such signal already means not to wait for what runs.

    `REMAP_SIGTERM=SIGQUIT` is how Heroku users tell a Celery worker that SIGTERM means SIGQUIT.
    """
    remapped = number == signal.SIGTERM and environment.get("REMAP_SIGTERM") == "SIGQUIT"
    return remapped or number == signal.SIGQUIT
