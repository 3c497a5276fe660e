"""Servers that are full, frozen, restarted or cut off; consumers that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
import redis

from asyncq._clock import system_environment
from asyncq.driver import Ack, Dead, DriverConfig, GiveBack, Park, Queue, Requeue, StoredResult
from asyncq.errors import BrokerConnectionError, BrokerFull, ConfigurationError, PublishError
from asyncq.protocol import ResultRecord, encode_result
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker
from redis_kit import Client, ack, consume, keep_house, numbers, publish, take, task, until
from servers import RedisServer


def make_broker(url: str, *, timeout: float = 10.0) -> RedisBroker:
    return RedisBroker(DriverConfig(url=url, app="tests", environment=system_environment(), timeout=timeout))


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


class Proxy:
    """Stands between a client and the server, and loses what passes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._connections: list[asyncio.Task[None]] = []
        self._forgotten: set[asyncio.Task[None]] = set()
        #: Replies vanish.
        self.deaf = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """End every connection."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def forget(self) -> None:
        """The connections of this moment carry nothing any more, and nobody is told; new ones do."""
        self._forgotten.update(self._connections)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.append(task)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool) -> None:
            while data := await source.read(65536):
                if not (task in self._forgotten or (replies and self.deaf)):
                    target.write(data)

        pumps = [
            asyncio.create_task(pump(reader, upstream, replies=False)),
            asyncio.create_task(pump(upstream_reader, writer, replies=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (upstream, writer):
                end.transport.abort()
            for one in pumps:
                one.cancel()
            await asyncio.wait(pumps)


async def test_a_lost_reply_to_a_claim_costs_no_lease(broker: RedisBroker, own_server: RedisServer) -> None:
    """The claim was carried out, its reply was lost, the connection broke: the messages are back within moments."""
    await publish(broker, "q", *range(10))
    async with Proxy(own_server.port) as proxy:
        behind = make_broker(proxy.url)
        consumer = consume(behind, "q", lease=3600)
        await consumer.extend([])
        await consumer.maintain()
        proxy.deaf = True
        taking = asyncio.create_task(consumer.receive(10))
        await until(lambda: own_server.command("LLEN", "q") == b":0\r\n")
        await proxy.cut()
        with pytest.raises(BrokerConnectionError):
            await taking
        proxy.deaf = False

        taken = await take(consumer, 10)

        assert numbers(taken) == list(range(10))
        assert not any(delivery.redelivered for delivery in taken)
        await behind.close()


@pytest.mark.slow
async def test_forgotten_connections_are_found_out_while_nothing_is_sent(
    broker: RedisBroker, own_server: RedisServer
) -> None:
    """A load balancer dropped its table: no error, no packet, for ever. The consumer is idle."""
    async with Proxy(own_server.port) as proxy:
        behind = make_broker(proxy.url, timeout=3.0)
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


async def test_a_frozen_server_is_noticed_by_a_waiting_consumer(broker: RedisBroker, own_server: RedisServer) -> None:
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


# -- refused -------------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    broker = make_broker("redis://127.0.0.1:1/0")

    with pytest.raises(BrokerConnectionError, match=r"127\.0\.0\.1:1"):
        await broker.open()
    await broker.close()


async def test_a_wrong_password_is_a_configuration_error_that_shows_none() -> None:
    with RedisServer(requirepass="right") as server:
        broker = make_broker(f"redis://:s3cret@127.0.0.1:{server.port}/0")
        with pytest.raises(ConfigurationError) as error:
            await broker.open()
        await broker.close()
        assert "s3cret" not in str(error.value)

        broker = make_broker(f"redis://:right@127.0.0.1:{server.port}/3")
        await broker.open()
        await broker.close()


async def test_an_unknown_database_is_a_configuration_error(own_server: RedisServer) -> None:
    broker = make_broker(own_server.url(999))

    with pytest.raises(ConfigurationError):
        await broker.open()
    await broker.close()


async def test_a_unix_socket_will_do(own_server: RedisServer) -> None:
    own_server.command("FLUSHALL")
    broker = make_broker(f"redis+socket://{own_server.socket_path}?virtual_host=2")
    await broker.open()
    await publish(broker, "q", 1)

    assert numbers(await take(consume(broker, "q"), 1)) == [1]
    await broker.close()


async def test_a_replica_is_no_broker(own_server: RedisServer) -> None:
    """READONLY means: wrong server for now. The next call connects anew, perhaps to the right one."""
    with RedisServer() as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(own_server.port))
        broker = make_broker(replica.url())
        with pytest.raises(BrokerConnectionError):
            await publish(broker, "q", 1)
        with pytest.raises(BrokerConnectionError):
            await publish(broker, "q", 1, 2)
        with pytest.raises(BrokerConnectionError):
            await consume(broker, "q").receive(1)
        replica.command("REPLICAOF", "NO", "ONE")

        await publish(broker, "q", 3)

        assert numbers(await take(consume(broker, "q"), 1)) == [3]
        await broker.close()


async def test_an_evicting_server_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(maxmemory_policy="allkeys-lru") as server:
        broker = make_broker(server.url())
        await broker.open()
        await broker.close()

    assert "allkeys-lru" in caplog.text


async def test_a_publish_error_names_each_message(broker: RedisBroker, client: Client) -> None:
    client.set("q", "text")

    with pytest.raises(PublishError) as refused:
        await publish(broker, "q", 1, 2)

    assert set(refused.value.failures) == {0, 1}
