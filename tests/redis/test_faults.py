"""Servers that are full, frozen, restarted or cut off; consumers that are killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from asyncq._clock import system_environment
from asyncq.driver import Ack, Dead, DriverConfig, GiveBack, Park, Queue, Requeue, StoredResult
from asyncq.errors import BackendFull, BrokerConnectionError, BrokerFull
from asyncq.protocol import ResultRecord, encode_result
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker
from chaos.proxy import Proxy
from redis_kit import Client, ack, consume, keep_house, make_broker, numbers, publish, take, task
from servers import RedisServer
from waiting import until


@pytest.fixture
async def broker(own_server: RedisServer) -> AsyncIterator[RedisBroker]:
    own_server.command("FLUSHALL")
    broker = make_broker(own_server.url(), timeout=2.0)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[Client]:
    with redis.Redis(port=own_server.port) as client:
        yield client


# -- full ----------------------------------------------------------------------------------------------------


@pytest.fixture
def full(own_server: RedisServer) -> Iterator[None]:
    """Called for as `request.getfixturevalue`: from then on the server has no room."""
    own_server.command("CONFIG", "SET", "maxmemory", "1")
    yield
    own_server.command("CONFIG", "SET", "maxmemory", "0")


async def test_a_full_server_refuses_what_is_new_and_finishes_what_was_taken(
    broker: RedisBroker, client: Client, request: pytest.FixtureRequest
) -> None:
    await publish(broker, "q", *range(8))
    consumer = consume(broker, "q")
    acked, requeued, back, parked, dead, kept = await take(consumer, 6)
    request.getfixturevalue("full")

    with pytest.raises(BrokerFull):
        await publish(broker, "q", 100)
    with pytest.raises(BrokerFull):
        await publish(broker, "q", 101, 102)
    with pytest.raises(BrokerFull):
        await publish(broker, "other", 103, not_before=time.time())
    settlements = [
        Ack(acked),
        Requeue(requeued),
        GiveBack(back),
        Park(parked, until=time.time() + 0.05),
        Dead(dead, letter=task(9)),
    ]
    assert await consumer.settle(settlements) == []
    assert await consumer.extend([kept]) == []
    await ack(consumer, [kept])
    drained = await take(consumer, 5)
    await ack(consumer, drained)

    assert sorted(numbers(drained)) == [1, 2, 3, 6, 7]
    assert await broker.release("nobody@host") == 0
    assert not client.exists("q", "other", "unacked", "asyncq.leases")


async def test_a_worker_starts_on_a_full_server_and_an_operator_sees_it(
    broker: RedisBroker, own_server: RedisServer, request: pytest.FixtureRequest
) -> None:
    await publish(broker, "q", 1, 2, 3)
    request.getfixturevalue("full")
    late = make_broker(own_server.url())
    await late.open()
    await late.declare([Queue(name="q")])

    assert (await late.depth("q")).ready == 3
    assert len(await late.peek("q", "ready")) == 3
    await ack(consume(late, "q"), await take(consume(late, "q"), 1))
    assert await late.purge("q") == 2
    await late.close()


async def test_a_full_server_still_brings_back_what_a_dead_consumer_held(
    broker: RedisBroker, request: pytest.FixtureRequest
) -> None:
    await publish(broker, "q", 1)
    await take(consume(broker, "q", lease=0.05), 1)
    request.getfixturevalue("full")

    assert numbers(await take(consume(broker, "q"), 1)) == [1]


async def test_results_are_stored_on_a_full_server(own_server: RedisServer, request: pytest.FixtureRequest) -> None:
    backend = RedisBackend(DriverConfig(url=own_server.url(), app="tests", environment=system_environment()))
    request.getfixturevalue("full")
    record = encode_result(ResultRecord(task_id="t", status="SUCCESS", result=1))
    try:
        assert await backend.store([StoredResult(task_id="t", record=record, status="SUCCESS", expires=60)]) == [True]
        assert await backend.get(["t"]) == [record]
    finally:
        await backend.close()


async def test_publishing_goes_on_when_there_is_room_again(broker: RedisBroker, own_server: RedisServer) -> None:
    own_server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BrokerFull):
        await publish(broker, "q", 1)
    own_server.command("CONFIG", "SET", "maxmemory", "0")

    await publish(broker, "q", 2)

    assert numbers(await take(consume(broker, "q"), 1)) == [2]


async def test_a_server_that_can_not_save_takes_nothing_and_forgets_nothing(
    broker: RedisBroker, own_server: RedisServer, client: Client
) -> None:
    """A full disk, as Redis tells of it: every write is refused, acknowledgements too, until it can save again."""
    await publish(broker, "q", *range(4))
    consumer = consume(broker, "q")
    acked, given_back = await take(consumer, 2)
    backend = RedisBackend(DriverConfig(url=own_server.url(), app="tests", environment=system_environment()))
    result = StoredResult(
        task_id="a", record=encode_result(ResultRecord(task_id="a", status="SUCCESS")), status="SUCCESS"
    )
    target = own_server.folder / client.config_get("dbfilename")["dbfilename"]
    client.config_set("save", "3600 1")
    (target / "in the way").mkdir(parents=True)
    try:
        client.bgsave()
        await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

        with pytest.raises(BrokerFull):
            await publish(broker, "q", 100)
        with pytest.raises(BackendFull):
            await backend.store([result])
        for settlements in ([Ack(acked)], [Ack(acked), GiveBack(given_back)]):
            with pytest.raises(BrokerConnectionError):
                await consumer.settle(settlements)
    finally:
        shutil.rmtree(target)
        client.bgsave()
        await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")
        client.config_set("save", "")

    assert await consumer.settle([Ack(acked), GiveBack(given_back)]) == []
    assert await backend.store([result]) == [True]
    await backend.close()
    assert sorted(numbers(await take(consumer, 3))) == [1, 2, 3]


# -- killed --------------------------------------------------------------------------------------------------

HOLDER = """
import asyncio, sys
from asyncq._clock import system_environment
from asyncq.driver import ConsumerOptions, DriverConfig, Queue
from asyncq_brokers.redis import RedisBroker

async def main() -> None:
    broker = RedisBroker(DriverConfig(url=sys.argv[1], app="holder", environment=system_environment()))
    consumer = broker.consume([Queue(name="q")], ConsumerOptions(node="holder@host", lease=float(sys.argv[2])))
    held = []
    while True:
        held += await consumer.receive(7)
        print(len(held), flush=True)
        await consumer.extend(held)

asyncio.run(main())
"""


async def start_holder(url: str, lease: float, count: int) -> asyncio.subprocess.Process:
    """A process that takes messages and holds them; returns when it holds so many."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, url, str(lease), stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": pythonpath()}
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        while int(await process.stdout.readline() or b"0") < count:
            assert process.returncode is None
    return process


def pythonpath() -> str:
    root = Path(__file__).parents[2]
    return os.pathsep.join(map(str, (root, root / "brokers", root / "backends")))


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert process.stdout is not None
    await process.stdout.read()


async def test_what_a_killed_process_held_comes_back_by_its_lease(broker: RedisBroker, own_server: RedisServer) -> None:
    await publish(broker, "q", *range(50))
    holder = await start_holder(own_server.url(), lease=1.0, count=21)
    await kill(holder)
    killed = time.monotonic()

    taken = await take(consume(broker, "q"), 50)

    assert sorted(numbers(taken)) == list(range(50))
    assert time.monotonic() - killed < 1.0 + 2.0


async def test_what_a_killed_process_held_can_be_released_at_once(
    broker: RedisBroker, own_server: RedisServer, client: Client
) -> None:
    await publish(broker, "q", *range(50))
    holder = await start_holder(own_server.url(), lease=60.0, count=50)
    await kill(holder)

    assert await broker.release("holder@host") == 50

    assert numbers(await take(consume(broker, "q"), 50)) == list(range(50))
    assert client.zcard("asyncq.leases") == 50


async def test_killed_while_it_takes_nothing_is_lost(broker: RedisBroker, own_server: RedisServer) -> None:
    """Again and again, in the midst of it: every message is on the queue, or recorded."""
    await publish(broker, "q", *range(300))
    for _ in range(4):
        await kill(await start_holder(own_server.url(), lease=0.3, count=1))

    taken = await take(consume(broker, "q"), 300)

    assert sorted(numbers(taken)) == list(range(300))


# -- cut off -------------------------------------------------------------------------------------------------


async def test_all_connections_killed_again_and_again(broker: RedisBroker, own_server: RedisServer) -> None:
    """Everything sent comes, whatever became of the connections: what a call did is unknown, never undone."""
    consumer = consume(broker, "q")
    seen: set[int] = set()
    done = asyncio.Event()

    async def work() -> None:
        while not done.is_set():
            try:
                batch = await consumer.receive(5)
                seen.update(numbers(batch))
                await consumer.settle([Ack(delivery) for delivery in batch])
            except BrokerConnectionError:
                await asyncio.sleep(0.01)

    async def house() -> None:
        while True:
            with suppress(BrokerConnectionError):
                await keep_house(consumer)
            await asyncio.sleep(0.01)

    async def send() -> set[int]:
        accepted: set[int] = set()
        for number in range(200):
            try:
                await publish(broker, "q", number)
                accepted.add(number)
            except BrokerConnectionError:
                pass
            if number % 20 == 10:
                own_server.command("CLIENT", "KILL", "TYPE", "normal")
                own_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        return accepted

    working, housekeeping = asyncio.create_task(work()), asyncio.create_task(house())
    try:
        accepted = await send()
        await until(lambda: accepted <= seen)
    finally:
        done.set()
        for one in (working, housekeeping):
            one.cancel()
        await asyncio.wait([working, housekeeping])
    assert len(accepted) > 150


async def test_a_lost_reply_to_a_claim_costs_no_lease(broker: RedisBroker, own_server: RedisServer) -> None:
    """The claim was carried out, its reply was lost, the connection broke: the messages are back within moments."""
    await publish(broker, "q", *range(11))
    first = consume(broker, "q")
    await ack(first, await take(first, 1))  # the server knows the script: one request takes
    async with Proxy(own_server.port) as proxy:
        behind = make_broker(f"redis://127.0.0.1:{proxy.port}/0")
        consumer = consume(behind, "q", lease=3600)
        await consumer.maintain()
        proxy.half_open("requests")
        taking = asyncio.create_task(consumer.receive(10))
        await until(lambda: own_server.command("LLEN", "q") == b":0\r\n")
        proxy.reset()
        with pytest.raises(BrokerConnectionError):
            await taking
        proxy.heal()

        taken = await take(consumer, 10)

        assert numbers(taken) == list(range(1, 11))
        assert not any(delivery.redelivered for delivery in taken)
        await behind.close()


async def test_forgotten_connections_are_found_out_while_nothing_is_sent(
    broker: RedisBroker, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer dropped its table: no error, no packet, for ever. The consumer is idle."""
    monkeypatch.setattr("asyncq_brokers.redis.waiter._LOOK_AGAIN", 0.5)
    async with Proxy(own_server.port) as proxy:
        behind = make_broker(f"redis://127.0.0.1:{proxy.port}/0", timeout=3.0)
        consumer = consume(behind, "q")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await consumer.receive(1)
        proxy.forget()
        await publish(broker, "q", 1)

        async def worker() -> list[int]:
            while True:
                try:
                    return numbers(await consumer.receive(1))
                except BrokerConnectionError:
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(15):
            assert await worker() == [1]
        await behind.close()


async def test_a_frozen_server_is_noticed_by_a_waiting_consumer(
    broker: RedisBroker, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncq_brokers.redis.waiter._LOOK_AGAIN", 0.5)
    consumer = consume(broker, "q")
    waiting = asyncio.create_task(consumer.receive(1))
    await asyncio.sleep(0.1)
    with own_server.paused(), pytest.raises(BrokerConnectionError):
        async with asyncio.timeout(15):
            await waiting

    await publish(broker, "q", 1)
    assert numbers(await take(consumer, 1)) == [1]


async def test_what_a_frozen_server_took_late_comes_back(own_server: RedisServer) -> None:
    """The claim stands in the server's buffer when we give up; it is carried out when nobody waits for it."""
    broker = make_broker(own_server.url(), timeout=0.3)
    own_server.command("FLUSHALL")
    try:
        await publish(broker, "q", *range(10))
        consumer = consume(broker, "q", lease=3600)
        await consumer.maintain()
        own_server.pause()
        with pytest.raises(BrokerConnectionError):
            await consumer.receive(10)
        own_server.resume()

        assert sorted(numbers(await take(consumer, 10))) == list(range(10))
    finally:
        await broker.close()
