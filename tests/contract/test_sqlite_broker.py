"""The SQLite broker keeps the contract."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Broker, DriverConfig
from asyncq.testing.broker_contract import BrokerContract, Freeze, MakeBroker
from asyncq_brokers._clients.sqlite import _doorbell
from asyncq_brokers.sqlite import SQLiteBroker, _broker


class TestSQLiteBroker(BrokerContract):
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(_broker, "MAX_MESSAGE_BYTES", 2 * 1024 * 1024)  # so that the limit can be tried
        monkeypatch.setattr(_doorbell, "SAFETY_LOOK", 3600.0)  # so that a lost ring is a failure
        return tmp_path / "contract.sqlite"

    @pytest.fixture
    def make_broker(self, path: Path) -> MakeBroker:
        def make(*, timeout: float = 10.0) -> Broker:
            # Nothing shared between the instances but the file, as between processes.
            config = DriverConfig(
                url=f"sqlite:///{path}", app="contract", environment=system_environment(), timeout=timeout
            )
            return SQLiteBroker(config)

        return make

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
