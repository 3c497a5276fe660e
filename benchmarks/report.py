"""What is shown of a run."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .contenders import Contender
from .measuring import Figures
from .servers import Server

_PACKAGES = (
    *("asyncq", "msgspec", "uvloop", "redis", "hiredis", "pamqp"),
    *(
        "celery",
        "kombu",
        "taskiq",
        "taskiq-redis",
        "taskiq-aio-pika",
        "aio-pika",
        "aiormq",
        "dramatiq",
        "gevent",
        "pika",
    ),
)


def medians(turns: Sequence[Figures]) -> Figures:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def facts(server: Server) -> dict[str, Any]:
    """What the figures depend on. Nothing that names the machine."""
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
        "server": server.version,
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def table(results: Mapping[str, Figures]) -> str:
    """Markdown: a line a measure, a column a contender; in brackets the multiple of the first that has the measure."""
    names = list(results)
    measures = list(dict.fromkeys(measure for figures in results.values() for measure in figures))
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    for measure in measures:
        first = next(figures[measure] for figures in results.values() if measure in figures)
        cells = [_cell(figures.get(measure), first) for figures in results.values()]
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(contenders: Sequence[Contender]) -> str:
    return "\n".join(f"* {each.name}: {each.note}" for each in contenders)


def _cell(value: float | None, first: float) -> str:
    if value is None:
        return ""
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} ({value / first:.2f})" if value != first and first else number


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
