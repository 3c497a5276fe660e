from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncq import AsyncQ


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine's own environment says is no part of a test."""
    for name in list(os.environ):
        if name.startswith(("ASYNCQ_", "CELERY_")) or name == "REDIS_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def queue() -> AsyncQ:
    """An app on the memory drivers."""
    return AsyncQ("shop", broker="memory://")
