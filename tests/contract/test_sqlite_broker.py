"""The SQLite broker keeps the contract."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Ack, Broker, Delivery, DriverConfig, Queue, Requeue
from asyncq.errors import BrokerConnectionError
from asyncq.testing._broker_kit import Consume, bodies, numbered, publish
from asyncq.testing._kit import cancel_everywhere, within
from asyncq.testing.broker_contract import BrokerContract, Freeze, MakeBroker
from asyncq_brokers._clients.sqlite import Session, _doorbell
from asyncq_brokers.sqlite import SQLiteBroker, _broker, _rows
from waiting import until


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

    async def test_what_a_full_disk_did_not_let_settle_can_be_settled_again(
        self, broker: Broker, queue: Queue, consume: Consume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The room that is kept back for it may be gone too; acks that count as done would make tasks run again."""
        consumer = consume(broker, queue)
        await publish(broker, queue, b"1")
        (delivery,) = await within(consumer.receive(1))
        settle = _rows.settle

        def fail(*_: object, **__: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        monkeypatch.setattr(_rows, "settle", fail)
        with pytest.raises(BrokerConnectionError, match="no room left"):
            await consumer.settle([Ack(delivery)])
        monkeypatch.setattr(_rows, "settle", settle)
        assert await consumer.settle([Ack(delivery)]) == []

    async def test_a_cancelled_receive_gives_back_at_once(self, broker: Broker, queue: Queue, consume: Consume) -> None:
        """Better than promised: nobody has to wait for the lease."""
        consumer = consume(broker, queue, lease=3600)
        await publish(broker, queue, *numbered(3))

        async def receive() -> None:
            for delivery in await consumer.receive(3):
                await consumer.settle([Requeue(delivery)])

        async def check() -> None:
            taken = await within(consumer.receive(3))
            assert sorted(bodies(taken)) == numbered(3)
            await within(consumer.settle([Requeue(delivery) for delivery in taken]))

        await cancel_everywhere(receive, check, at_most=1)

    @pytest.mark.parametrize("closes", ["consumer", "broker"])
    async def test_closing_undoes_a_claim_under_way(
        self,
        make_broker: MakeBroker,
        broker: Broker,
        queue: Queue,
        consume: Consume,
        monkeypatch: pytest.MonkeyPatch,
        closes: str,
    ) -> None:
        await publish(broker, queue, *numbered(3))
        claimed, go_on = threading.Event(), threading.Event()
        claim = _rows.claim

        def slow_claim(session: Session, **arguments: Any) -> list[Delivery]:
            taken = claim(session, **arguments)
            claimed.set()
            go_on.wait(10)
            return taken

        monkeypatch.setattr(_rows, "claim", slow_claim)
        closing = make_broker()
        await closing.open()
        consumer = consume(closing, queue)
        receiving = asyncio.create_task(consumer.receive(3))
        await until(claimed.is_set)
        assert (await broker.depth(queue.name)).in_flight == 3

        end = asyncio.create_task(consumer.close() if closes == "consumer" else closing.close())
        with pytest.raises(BrokerConnectionError):
            await within(receiving, 1.0)
        go_on.set()
        await within(end)
        await within(closing.close())

        assert (await broker.depth(queue.name)).ready == 3
