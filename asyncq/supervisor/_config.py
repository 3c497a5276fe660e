"""What a supervisor is told, as JSON, by whoever starts it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["SupervisorConfig", "read_config"]


class SupervisorConfig(NamedTuple):
    """What to run, how often, and how to talk of it."""

    #: What each worker process is told; the supervisor adds what is that process's own, and looks at nothing in it.
    child: Mapping[str, Any]  # Any: values of a JSON document
    #: First part of the children's node names `<name>-<number>@<host>`.
    name: str
    #: Children at a time.
    processes: int = 1
    log_level: str = "info"
    log_format: str = "text"
    #: Start the children anew when a file below the working directory changes.
    reload: bool = False
    #: The interpreter with its options.
    python: Sequence[str] = (sys.executable,)
    #: What the interpreter runs as a child (its arguments in JSON follow) and as the rescuer.
    child_program: Sequence[str] = ("-m", "asyncq.cli._child")
    rescue_program: Sequence[str] = ("-m", "asyncq.cli._rescue")


def read_config(text: str) -> SupervisorConfig:
    """Raises ValueError for what is no JSON, TypeError for unknown or missing names."""
    document = json.loads(text)
    document["name"] = document.get("name") or f"asyncq-{os.urandom(4).hex()}"
    return SupervisorConfig(**document)
