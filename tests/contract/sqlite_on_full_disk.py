"""What a SQLite broker promises on a full disk: `python -m contract.sqlite_on_full_disk <folder on a small disk>`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
from pathlib import Path

from asyncq._clock import system_environment
from asyncq.driver import (
    Ack,
    ConsumerOptions,
    Dead,
    DriverConfig,
    GiveBack,
    Park,
    Publication,
    Queue,
    Requeue,
    StoredResult,
)
from asyncq.errors import BackendFull, BrokerFull
from asyncq.protocol import WireMessage
from asyncq_backends.sqlite import SQLiteBackend
from asyncq_brokers.sqlite import SQLiteBroker

LARGE = 20_000


def publication(size: int) -> Publication:
    return Publication(message=WireMessage(body=os.urandom(size), headers={}), queue="celery")


async def fill(broker: SQLiteBroker) -> int:
    sent = 0
    while True:
        try:
            await broker.publish([publication(LARGE)])
        except BrokerFull:
            return sent
        sent += 1


async def store(backend: SQLiteBackend) -> None:
    await backend.store([StoredResult(task_id=os.urandom(8).hex(), record=os.urandom(LARGE), status="SUCCESS")])


async def fill_up(backend: SQLiteBackend) -> None:
    for _ in range(1000):
        try:
            await store(backend)
        except BackendFull:
            return
    raise AssertionError("a full disk took 1,000 results")


async def main(folder: Path) -> None:
    config = DriverConfig(url=f"sqlite:///{folder}/full.sqlite", app="contract", environment=system_environment())
    broker, backend = SQLiteBroker(config), SQLiteBackend(config)
    await broker.open()
    await backend.open()
    consumer = broker.consume([Queue(name="celery")], ConsumerOptions(node="one@contract"))
    await broker.publish([publication(500) for _ in range(300)])
    held = await consumer.receive(150)
    other = (folder / "other").open("wb", buffering=0)
    sent = await fill(broker)
    assert sent > 100, sent
    await fill_up(backend)
    # Somebody else takes what is left.
    with other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(4096))

    assert await consumer.extend(held) == []
    letters = [Dead(delivery, letter=WireMessage(body=b"dead", headers={})) for delivery in held[:10]]
    assert await consumer.settle(letters) == []
    assert await consumer.settle([Requeue(delivery) for delivery in held[10:20]]) == []
    assert await consumer.settle([GiveBack(delivery) for delivery in held[20:30]]) == []
    assert await consumer.settle([Park(delivery, until=0) for delivery in held[30:40]]) == []
    assert await consumer.settle([Ack(delivery) for delivery in held[40:]]) == []
    await consumer.maintain()
    # And drained, to the last.
    left = 300 - 150 + 30 + sent
    while left:
        batch = await consumer.receive(100)
        assert await consumer.settle([Ack(delivery) for delivery in batch]) == []
        left -= len(batch)

    (folder / "other").unlink()
    await broker.publish([publication(LARGE)])
    await store(backend)
    await broker.close()
    await backend.close()
    db = sqlite3.connect(folder / "full.sqlite")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    print("passed")


asyncio.run(main(Path(sys.argv[1])))
