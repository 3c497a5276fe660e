"""The SQLite backend keeps the contract."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, ResultBackend
from asyncq.testing.backend_contract import BackendContract, Freeze, MakeBackend, Subscriptions
from asyncq_backends.sqlite import SQLiteBackend
from asyncq_brokers._clients.sqlite import _doorbell


class TestSQLiteBackend(BackendContract):
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(_doorbell, "SAFETY_LOOK", 3600.0)  # so that a lost ring is a failure
        return tmp_path / "contract.sqlite"

    @pytest.fixture
    def make_backend(self, path: Path) -> MakeBackend:
        def make(*, timeout: float = 10.0) -> ResultBackend:
            # Nothing shared between the instances but the file, as between processes.
            config = DriverConfig(
                url=f"sqlite:///{path}", app="contract", environment=system_environment(), timeout=timeout
            )
            return SQLiteBackend(config)

        return make

    @pytest.fixture
    def subscriptions(self) -> Subscriptions:
        async def count(backend: ResultBackend) -> int:
            return cast("SQLiteBackend", backend).followed

        return count

    @pytest.fixture
    def freeze(self, path: Path) -> Freeze:
        @asynccontextmanager
        async def freeze() -> AsyncGenerator[None]:
            """Another process keeps the file to itself."""
            db = sqlite3.connect(path, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                db.close()

        return freeze
