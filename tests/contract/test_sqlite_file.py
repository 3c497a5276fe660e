"""The SQLite file: where it is, who may read it, and what becomes of one that isn't as it should be."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Broker, ConsumerOptions, DriverConfig, Queue, StoredResult
from asyncq.errors import BackendConnectionError, BrokerConnectionError, ConfigurationError
from asyncq.testing._broker_kit import bodies, publish, take
from asyncq_backends.sqlite import SQLiteBackend
from asyncq_brokers._clients.sqlite import _doorbell
from asyncq_brokers._clients.sqlite._location import locate
from asyncq_brokers.sqlite import SQLiteBroker


def config(url: str, *, app: str = "shop", timeout: float = 10.0, **options: object) -> DriverConfig:
    return DriverConfig(url=url, app=app, environment=system_environment(), timeout=timeout, options=options)


@asynccontextmanager
async def opened(path: Path, *, timeout: float = 10.0) -> AsyncGenerator[Broker]:
    broker = SQLiteBroker(config(f"sqlite:///{path}", timeout=timeout))
    try:
        await broker.open()
        yield broker
    finally:
        await broker.close()


class TestPlace:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"ASYNCQ_HOME": "/srv/tasks", "XDG_STATE_HOME": "/state"}, "/srv/tasks/shop.sqlite"),
            ({"XDG_STATE_HOME": "/state"}, "/state/asyncq/shop.sqlite"),
            ({"XDG_STATE_HOME": "relative"}, f"{Path.home()}/.local/state/asyncq/shop.sqlite"),
            ({}, f"{Path.home()}/.local/state/asyncq/shop.sqlite"),
        ],
    )
    def test_the_default_place(self, environ: dict[str, str], expected: str) -> None:
        assert str(locate("sqlite://", "shop", environ)) == expected

    def test_a_relative_and_an_absolute_path(self) -> None:
        assert locate("sqlite:///some%20tasks.db", "shop") == Path.cwd() / "some tasks.db"
        assert locate("sqlite:////srv/tasks.db", "shop") == Path("/srv/tasks.db")

    @pytest.mark.parametrize("app", ["../shop", "a/b", "..", ".hidden", "", "x" * 101, "a\0b", "a b", "~root"])
    def test_no_app_name_leads_elsewhere(self, app: str) -> None:
        with pytest.raises(ConfigurationError, match="name"):
            locate("sqlite://", app)

    @pytest.mark.parametrize(
        "url", ["sqlite", "sqlite:///", "sqlite://host/x.db", "sqlite:///:memory:", "sqlite:///x.db?mode=ro"]
    )
    def test_other_forms_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="sqlite:///relative"):
            SQLiteBroker(config(url))

    async def test_it_is_private(self, tmp_path: Path) -> None:
        path = tmp_path / "made" / "shop.sqlite"
        async with opened(path) as broker:
            await publish(broker, "celery", b"0")
            consumer = broker.consume([Queue(name="celery")], ConsumerOptions(node="one@contract"))
            await take(consumer, 1)

            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert modes.pop("shop.sqlite-bells") == 0o700
            assert set(modes) >= {"shop.sqlite", "shop.sqlite-wal", "shop.sqlite-shm"}
            assert set(modes.values()) == {0o600}

    async def test_broker_and_backend_share_it(self, tmp_path: Path) -> None:
        path = tmp_path / "both.sqlite"
        backend = SQLiteBackend(config(f"sqlite:///{path}"))
        await backend.open()
        async with opened(path) as broker:
            await publish(broker, "celery", b"0")
            await backend.store([StoredResult(task_id="t", record=b"r", status="SUCCESS")])
            assert await backend.get(["t"]) == [b"r"]
            assert backend.address == broker.address == str(path)
        await backend.close()

    def test_unknown_options_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match="visibility_timeout"):
            SQLiteBroker(config("sqlite:///x.db", visibility_timeout=3600))
        with pytest.raises(ConfigurationError, match="'off'"):
            SQLiteBackend(config("sqlite:///x.db", synchronous="off"))

    async def test_it_can_wait_for_the_disk(self, tmp_path: Path) -> None:
        broker = SQLiteBroker(config(f"sqlite:///{tmp_path}/x.db", synchronous="full"))
        await broker.open()
        await publish(broker, "celery", b"0")
        assert (await broker.depth("celery")).ready == 1
        await broker.close()


class TestFault:
    async def test_a_newer_format_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "newer.sqlite"
        async with opened(path):
            pass
        alter(path, "PRAGMA user_version = 99")

        with pytest.raises(ConfigurationError, match=r"newer\.sqlite was written by a newer asyncq.*99"):
            async with opened(path):
                pass

    async def test_another_programs_database_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "theirs.sqlite"
        alter(path, "CREATE TABLE message (theirs TEXT)")
        before = path.read_bytes()

        with pytest.raises(ConfigurationError, match=r"theirs\.sqlite is another program's"):
            async with opened(path):
                pass

        assert path.read_bytes() == before

    async def test_no_database_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(b"not a database, but long enough to look like one\n" * 100)

        with pytest.raises(ConfigurationError, match=r"notes\.txt is damaged, or no SQLite file"):
            async with opened(path):
                pass

    async def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="is no file"):
            async with opened(tmp_path):
                pass

    async def test_a_file_in_the_folders_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(ConfigurationError, match=r"shop\.sqlite can't be used"):
            async with opened(tmp_path / "file" / "shop.sqlite"):
                pass

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    async def test_a_folder_that_is_not_ours_to_write(self, tmp_path: Path) -> None:
        os.chmod(tmp_path, 0o500)  # noqa: PTH101 - a Path's would be taken for slow I/O

        with pytest.raises(ConfigurationError, match="can't be"):
            async with opened(tmp_path / "shop.sqlite"):
                pass

    async def test_a_damaged_page_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "damaged.sqlite"
        async with opened(path) as broker:
            await publish(broker, "celery", *[b"x" * 1000] * 50)
        content = bytearray(path.read_bytes())
        for page in range(1, len(content) // 4096):
            content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
        path.write_bytes(content)

        with pytest.raises(ConfigurationError, match=r"damaged\.sqlite is damaged"):
            async with opened(path) as broker:
                await broker.depth("celery")

    async def test_a_removed_file_is_made_anew(self, tmp_path: Path) -> None:
        """Else a process goes on with a file that no other can see, and what it sends is lost."""
        path = tmp_path / "shop.sqlite"
        async with opened(path) as first, opened(path) as second:
            await publish(first, "celery", b"old")
            remove(path)

            await publish(first, "celery", b"new")

            consumer = second.consume([Queue(name="celery")], ConsumerOptions(node="one@contract"))
            assert bodies(await take(consumer, 1)) == [b"new"]

    async def test_a_lock_that_stays_is_a_lost_connection(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.sqlite"
        backend = SQLiteBackend(config(f"sqlite:///{path}", timeout=0.3))
        await backend.open()
        async with opened(path, timeout=0.3) as broker:
            db = sqlite3.connect(path, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(BrokerConnectionError, match=r"shop\.sqlite"):
                await publish(broker, "celery", b"0")
            with pytest.raises(BackendConnectionError, match=r"shop\.sqlite"):
                await backend.store([StoredResult(task_id="t", record=b"r", status="SUCCESS")])
            db.close()
            await publish(broker, "celery", b"0")
        await backend.close()


class TestFullDisk:
    def test_what_was_taken_is_settled(self, tmp_path: Path) -> None:
        """On a disk of 24 MiB, which only a namespace of our own may mount."""
        mount = 'mount -t tmpfs -o size=24m none "$1" && exec "$2" -m contract.sqlite_on_full_disk "$1"'
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
            pytest.skip("no right to a mount namespace")
        done = subprocess.run(
            [*unshare, "sh", "-c", mount, "sh", tmp_path, sys.executable],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout == "passed\n"


class TestDoorbell:
    async def test_the_dead_ones_bells_are_taken_down(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.sqlite"
        folder = _doorbell.folder_beside(path)
        folder.mkdir()
        os.mkfifo(folder / "messages-dead.bell")
        bell = _doorbell.Bell(path, "messages", "alive")
        try:
            _doorbell.ring(folder, "messages")

            assert [entry.name for entry in folder.iterdir()] == ["messages-alive.bell"]
        finally:
            bell.close()
        assert list(folder.iterdir()) == []

    async def test_a_full_bell_blocks_nobody(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.sqlite"
        bell = _doorbell.Bell(path, "messages", "deaf")
        try:
            fifo = os.open(_doorbell.folder_beside(path) / "messages-deaf.bell", os.O_WRONLY | os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(fifo, bytes(4096))
            os.close(fifo)

            _doorbell.ring(_doorbell.folder_beside(path), "messages")

            bell.clear()
            await bell.wait()
        finally:
            bell.close()

    async def test_without_a_bell_one_looks_more_often(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: object, mode: int) -> None:
            raise PermissionError(f"no FIFO at {path}")

        monkeypatch.setattr(os, "mkfifo", refuse)
        async with opened(tmp_path / "shop.sqlite") as broker:
            consumer = broker.consume([Queue(name="celery")], ConsumerOptions(node="one@contract"))
            async with opened(tmp_path / "shop.sqlite") as other:
                await publish(other, "celery", b"0")
                assert bodies(await take(consumer, 1)) == [b"0"]


def remove(path: Path) -> None:
    """The database and all that stands beside it."""
    for part in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def alter(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.close()
