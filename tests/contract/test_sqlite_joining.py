"""The SQLite backend keeps the contract of chords."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncq._clock import system_environment
from asyncq.driver import ChordOpening, DriverConfig, StoredResult
from asyncq.testing._joining_kit import part
from asyncq.testing.joining_contract import Freeze, JoiningBackend, JoiningContract, MakeBackend
from asyncq_backends.sqlite import SQLiteBackend


def make(path: Path, *, timeout: float = 10.0) -> SQLiteBackend:
    # Nothing shared between the instances but the file, as between processes.
    return SQLiteBackend(
        DriverConfig(url=f"sqlite:///{path}", app="contract", environment=system_environment(), timeout=timeout)
    )


class TestSQLiteChords(JoiningContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "contract.sqlite"

    @pytest.fixture
    def make_backend(self, path: Path) -> MakeBackend:
        def make_backend(*, timeout: float = 10.0) -> JoiningBackend:
            return make(path, timeout=timeout)

        return make_backend

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


async def test_what_has_expired_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "swept.sqlite"
    for group, expires in (("old", 0.001), ("new", 60.0)):
        backend = make(path)  # whose first call sweeps
        await backend.open()
        await backend.chords.open([ChordOpening(group_id=group, size=2, expires=expires)])
        await backend.chords.join([part(group, 0, expires=expires)])
        await backend.close()

    db = sqlite3.connect(path)
    try:
        assert db.execute("SELECT group_id FROM chord").fetchall() == [("new",)]
        assert db.execute("SELECT group_id FROM chord_part").fetchall() == [("new",)]
    finally:
        db.close()


async def test_overdue_chords_are_found_by_an_index(tmp_path: Path) -> None:
    """Not by looking at all that are open."""
    backend = make(tmp_path / "index.sqlite")
    await backend.open()
    await backend.close()

    db = sqlite3.connect(tmp_path / "index.sqlite")
    try:
        plan = db.execute(
            "EXPLAIN QUERY PLAN SELECT group_id FROM chord WHERE parts >= size + added AND NOT closed AND until <= 0"
        ).fetchall()
    finally:
        db.close()
    assert "chord_complete" in str(plan)


async def test_a_file_of_the_first_version_gets_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    backend = make(path)
    await backend.open()
    await backend.store([StoredResult(task_id="t", record=b"kept", status="SUCCESS")])
    await backend.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("DROP TABLE chord; DROP TABLE chord_part; PRAGMA user_version = 1")
    db.close()

    backend = make(path)
    await backend.open()
    try:
        assert await backend.get(["t"]) == [b"kept"]
        await backend.chords.open([ChordOpening(group_id="g", size=1)])
        assert len(await backend.chords.join([part("g", 0)])) == 1
    finally:
        await backend.close()
