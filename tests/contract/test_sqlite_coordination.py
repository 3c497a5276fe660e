"""The SQLite drivers keep the contract of coordination."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, Fact
from asyncq.testing.coordination_contract import CoordinatingDriver, CoordinationContract, Freeze, MakeDriver
from asyncq_backends.sqlite import SQLiteBackend
from asyncq_brokers._clients.sqlite import _coordination
from asyncq_brokers.sqlite import SQLiteBroker
from waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "contract.sqlite"


def config(path: Path, timeout: float = 10.0) -> DriverConfig:
    # Nothing shared between the instances but the file, as between processes.
    return DriverConfig(url=f"sqlite:///{path}", app="contract", environment=system_environment(), timeout=timeout)


@pytest.mark.parametrize("kind", [SQLiteBroker, SQLiteBackend])
class TestSQLiteCoordination(CoordinationContract):
    @pytest.fixture
    def make_driver(self, kind: type[SQLiteBroker | SQLiteBackend], path: Path) -> MakeDriver:
        def make(*, timeout: float = 10.0) -> CoordinatingDriver:
            return kind(config(path, timeout))

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


async def test_brokers_and_backends_of_one_file_share_their_facts(path: Path) -> None:
    broker, backend = SQLiteBroker(config(path)), SQLiteBackend(config(path))
    await broker.open()
    await backend.open()
    try:
        await broker.coordination.put([Fact(key="a", value=b"1", ttl=60.0)])

        assert await backend.coordination.get(["a"]) == [b"1"]
    finally:
        await broker.close()
        await backend.close()


async def test_what_has_expired_leaves_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coordination, "SWEEP", 0.0)
    broker = SQLiteBroker(config(path))
    await broker.open()
    try:
        coordination = broker.coordination
        await coordination.put([Fact(key=f"a{number}", value=b"1", ttl=0.05) for number in range(100)])
        await coordination.take("b", rate=20.0)
        await coordination.put([Fact(key="stays", value=b"1", ttl=60.0)])

        async def swept() -> bool:
            await coordination.incr("counts", ttl=60.0)
            with closing(sqlite3.connect(path)) as db:
                (facts,), (buckets,) = (
                    db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("fact", "bucket")
                )
            return (facts, buckets) == (2, 0)

        await until(swept)
        assert [key for key, _ in await coordination.scan("")] == ["counts", "stays"]
    finally:
        await broker.close()
