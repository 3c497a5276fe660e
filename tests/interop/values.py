"""What travels in both directions."""

from __future__ import annotations

import importlib.util
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

#: Celery's extended JSON.
EXTENDED = [
    datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2030, 1, 2, 3, 4, 5),  # noqa: DTZ001 - naive on purpose: it must stay so
    date(2030, 1, 2),
    time(3, 4, 5, 6),
    Decimal("1.10"),
    UUID("12345678-1234-5678-1234-567812345678"),
    b"text",
    b"\xff\x00\x80",
]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _compression(name: str, *modules: str) -> Any:
    missing = bool(modules) and not any(map(_is_installed, modules))
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{' or '.join(modules)} is not installed"))


#: Celery's names.
COMPRESSIONS = [
    *(_compression(name) for name in ("zlib", "gzip", "bzip2", "lzma")),
    _compression("brotli", "brotli", "brotlicffi"),
    _compression("zstd", "compression.zstd", "backports.zstd"),
]
