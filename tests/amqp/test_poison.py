"""What kills its worker again and again on a quorum queue, with no store that knows why: the server's count is all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from amqp_kit import BOUND, queue_name
from asyncq import AsyncQ
from asyncq._coordination import coordination_of
from asyncq._suspicion import Suspicion, write_suspicions
from asyncq.driver import Broker, ConsumerOptions, GiveBack, Queue
from asyncq.protocol import WireMessage, read_dead_letter
from chaos.ledger import Ledger
from processes import Program
from waiting import until

pytestmark = pytest.mark.slow


async def test_what_was_delivered_five_times_is_convicted_by_its_death_in_quarantine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: without a store for suspicions, a poison killed one worker after the other for ever."""
    ledger, name = Ledger(tmp_path / "ledger"), queue_name()
    monkeypatch.setenv("ASYNCQ_BROKER", url)
    monkeypatch.setenv("ASYNCQ_DEFAULT_QUEUE", name)
    monkeypatch.setenv("ASYNCQ_DEFAULT_QUEUE_TYPE", "quorum")
    monkeypatch.setenv("SUSPECTS_LEDGER", str(ledger.path))
    async with AsyncQ("suspects", broker=url, default_queue=name, default_queue_type="quorum") as app:
        broker = app.make_broker()
        await broker.open()
        try:
            neighbour = await app.send_task("suspects.shop.innocent", [3600])
            poison = await app.send_task("suspects.shop.exits", [3])
            queue = Queue(name=name, arguments={"x-queue-type": "quorum"})
            consumer = broker.consume([queue], ConsumerOptions(node="dead@host"))
            for _ in range(4):  # as often as four workers would have died of it
                async with asyncio.timeout(BOUND):
                    held = await consumer.receive(2)
                    while len(held) < 2:
                        held += await consumer.receive(1)
                await consumer.settle([GiveBack(delivery) for delivery in held])
            await consumer.close()

            async with Program("suspects.worker_program", {"options": {"shutdown_timeout": 0.2}}) as worker:
                await until(lambda: _is_dead(broker, name))
                # Its neighbour is under the same suspicion: it runs in quarantine, and goes on there.
                await until(lambda: bool(_pids(ledger, neighbour.id)))
                assert worker.pid not in _pids(ledger, neighbour.id)
                assert await asyncio.to_thread(worker.stop) == 0
            [letter] = [read_dead_letter(stored.content) for stored in await broker.peek(name, "dead")]
            assert isinstance(letter.content, WireMessage)
            assert letter.content.headers["id"] == poison.id
            assert (letter.reason or "").endswith("in quarantine; and 4 deliveries before came to no end")
            assert (await broker.depth(name)).ready == 1
        finally:
            await broker.close()


async def test_who_loses_the_connection_while_a_suspect_is_in_quarantine_is_not_taken_for_dead(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: each loss counted as one more death: after five an innocent went to the dead letters."""
    name, results = queue_name(), f"sqlite:///{tmp_path}/results.sqlite"
    monkeypatch.setenv("ASYNCQ_BROKER", url)
    monkeypatch.setenv("ASYNCQ_BACKEND", results)
    monkeypatch.setenv("ASYNCQ_DEFAULT_QUEUE", name)
    monkeypatch.setenv("SUSPECTS_LEDGER", str(tmp_path / "ledger"))
    async with AsyncQ("suspects", broker=url, backend=results, default_queue=name) as app:
        backend, broker = app.make_backend(), app.make_broker()
        coordination = coordination_of(backend, broker)
        assert backend is not None
        assert coordination is not None
        await backend.open()
        await broker.open()
        try:
            innocent = await app.send_task("suspects.shop.innocent")
            accused = Suspicion(deaths=["a crowd", "one", "two", "three"], node="cut-off@host", isolated=True)
            await write_suspicions(coordination, [(innocent.id, accused)])
            consumer = broker.consume([Queue(name=name)], ConsumerOptions(node="cut-off@host"))
            async with asyncio.timeout(BOUND):
                await consumer.receive(1)
            await broker.close()  # its connection, and nothing else, ends

            async with Program("suspects.worker_program", {"options": {}}) as worker:
                assert await innocent.get(BOUND) != worker.pid
                assert await asyncio.to_thread(worker.stop) == 0
        finally:
            await broker.close()
            await backend.close()


def _pids(ledger: Ledger, task_id: str) -> set[int]:
    return {entry.pid for entry in ledger.entries("START") if entry.task_id == task_id}


async def _is_dead(broker: Broker, queue: str) -> bool:
    return (await broker.depth(queue)).dead == 1
