"""SQLite between real processes: who shares, who is killed, and what is left."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncq.driver import Broker, ConsumerOptions
from asyncq.testing._broker_kit import bodies, numbered, publish, take
from contract.sqlite_user import QUEUE, make_broker
from processes import Program
from waiting import until


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shared.sqlite"


@pytest.fixture
async def broker(url: str) -> AsyncIterator[Broker]:
    broker = make_broker(url)
    await broker.open()
    yield broker
    await broker.close()


def user(url: str, journal: Path, **config: Any) -> Program:
    return Program("contract.sqlite_user", {"url": url, "journal": str(journal), **config})


async def test_two_processes_take_each_message_once(broker: Broker, url: str, tmp_path: Path) -> None:
    await publish(broker, "celery", *numbered(2000))
    journals = [tmp_path / "one", tmp_path / "two"]

    with user(url, journals[0], role="drain") as one, user(url, journals[1], role="drain") as two:
        assert (one.wait(), two.wait()) == (0, 0)

    shares = [journal.read_bytes().split() for journal in journals]
    assert sorted(shares[0] + shares[1]) == sorted(numbered(2000))
    depth = await broker.depth("celery")
    assert (depth.ready, depth.in_flight) == (0, 0)


async def test_what_a_killed_process_held_comes_back_after_its_lease(broker: Broker, url: str, tmp_path: Path) -> None:
    await publish(broker, "celery", *numbered(12))
    with user(url, tmp_path / "journal", role="hold", lease=1.5) as holder:
        holder.kill()

    consumer = broker.consume([QUEUE], ConsumerOptions(node="heir@contract"))
    first = await take(consumer, 2)
    again = await take(consumer, 10)

    assert bodies(first) == [b"10", b"11"]
    assert bodies(again) == numbered(10)
    assert all(delivery.redelivered and delivery.count == 2 for delivery in again)


async def test_what_a_killed_process_held_can_be_released_at_once(broker: Broker, url: str, tmp_path: Path) -> None:
    await publish(broker, "celery", *numbered(12))
    with user(url, tmp_path / "journal", role="hold", lease=3600.0) as holder:
        holder.kill()

    assert await broker.release("holder@contract") == 10

    consumer = broker.consume([QUEUE], ConsumerOptions(node="heir@contract"))
    assert bodies(await take(consumer, 12)) == numbered(12)


async def test_a_killed_sender_loses_nothing_that_was_accepted(broker: Broker, url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with user(url, journal, role="publish") as sender:
        await until(lambda: journal.stat().st_size > 5000)
        sender.kill()

    accepted = journal.read_bytes().split()
    depth = await broker.depth("celery")
    consumer = broker.consume([QUEUE], ConsumerOptions(node="heir@contract"))
    found = bodies(await take(consumer, depth.ready))

    # In order, and whole batches: what was accepted, and at most the one batch whose answer the kill cut off.
    assert found in (accepted, [*accepted, *[b"%d" % (len(accepted) + number) for number in range(7)]])


async def test_a_kill_leaves_a_sound_file(broker: Broker, url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    for _ in range(3):
        before = journal.stat().st_size if journal.exists() else 0
        with user(url, journal, role="publish") as sender:
            await until(lambda before=before: journal.stat().st_size > before + 1000)
            sender.kill()
    await broker.close()

    with sqlite3.connect(tmp_path / "shared.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
