"""Waiting on an idle queue: woken at once, by the best way that the server allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import anyio
import pytest
import redis

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.errors import BrokerConnectionError
from asyncq_brokers._clients.redis import Endpoint, Session, parse_endpoint
from asyncq_brokers.redis import RedisBroker
from asyncq_brokers.redis.waiter import PollingWaiter, RotatingWaiter, TrackingWaiter, Waiter, make_waiter
from redis_kit import BOUND, Client, ack, consume, numbers, publish
from servers import RedisServer
from waiting import until

LISTS = ["q", "q\x06\x163", "other"]


@pytest.fixture
def endpoint(url: str) -> Endpoint:
    return parse_endpoint(url)


@pytest.fixture(params=["tracking", "rotating", "polling"])
async def waiter(request: pytest.FixtureRequest, endpoint: Endpoint) -> AsyncIterator[Waiter]:
    kinds = {"tracking": TrackingWaiter, "rotating": RotatingWaiter, "polling": PollingWaiter}
    waiter: Waiter = kinds[request.param](endpoint, LISTS, system_environment(), 5.0)
    yield waiter
    await waiter.close()


async def waiting(waiter: Waiter) -> asyncio.Task[None]:
    """A wait that is under way on the server."""
    task = asyncio.create_task(waiter.wait())
    await asyncio.sleep(0.1)
    assert not task.done()
    return task


async def test_what_is_there_already_ends_the_wait(waiter: Waiter, client: Client) -> None:
    client.lpush(LISTS[1], b"message")

    async with asyncio.timeout(BOUND):
        await waiter.wait()

    assert client.lrange(LISTS[1], 0, -1) == [b"message"]


@pytest.mark.parametrize("how", ["push", "script", "transaction"])
@pytest.mark.parametrize("name", LISTS)
async def test_a_push_ends_the_wait_and_nothing_is_taken(waiter: Waiter, client: Client, name: str, how: str) -> None:
    task = await waiting(waiter)

    if how == "push":
        client.lpush(name, b"2", b"1")
    elif how == "script":
        client.eval("return redis.call('LPUSH', KEYS[1], '2', '1')", 1, name)
    else:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.lpush(name, b"2", b"1").execute()

    async with asyncio.timeout(BOUND):
        await task
    assert client.lrange(name, 0, -1) == [b"1", b"2"]


async def test_it_can_be_cancelled_and_asked_again(waiter: Waiter, client: Client) -> None:
    for _ in range(3):
        task = await waiting(waiter)
        task.cancel()
        await asyncio.wait([task])
    task = await waiting(waiter)

    client.lpush("q", b"message")

    async with asyncio.timeout(BOUND):
        await task


async def test_a_scope_that_is_cancelled_while_it_connects_leaves_no_connection(
    endpoint: Endpoint, client: Client, waiter: Waiter
) -> None:
    """A worker that stops right after its start. anyio cancels again at each turn of the loop, clean-up included."""
    before = len(client.client_list())
    for turns in range(40):
        one: Waiter = type(waiter)(endpoint, LISTS, system_environment(), 5.0)  # type: ignore[call-arg]  # made alike
        async with anyio.create_task_group() as group:
            group.start_soon(one.wait)
            for _ in range(turns):
                await asyncio.sleep(0)
            group.cancel_scope.cancel()
        await one.close()

    await until(lambda: len(client.client_list()) == before)


async def test_a_connection_that_ends_while_the_other_one_is_made_is_no_refusal(
    endpoint: Endpoint, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that there is no such client; a worker that took this for "can't" waited by BLMOVE for ever."""
    connect, opened = TrackingWaiter._open, list[Session]()

    async def connect_and_lose_the_first(self: TrackingWaiter) -> Session:
        opened.append(await connect(self))
        if len(opened) == 2:
            client.client_kill_filter(_type="pubsub")
        return opened[-1]

    monkeypatch.setattr(TrackingWaiter, "_open", connect_and_lose_the_first)
    waiter = make_waiter(endpoint, LISTS, system_environment(), 5.0)
    client.lpush("q", b"message")
    with pytest.raises(BrokerConnectionError):
        await waiter.wait()
    await waiter.wait()
    assert len(opened) == 4
    await waiter.close()


async def test_nothing_is_missed_between_two_waits(waiter: Waiter, client: Client) -> None:
    for _ in range(30):
        client.lpush("q", b"message")
        async with asyncio.timeout(BOUND):
            await waiter.wait()
        client.delete("q")


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_a_lost_connection_does_not_deafen_a_tracking_waiter(
    endpoint: Endpoint, client: Client, kind: str
) -> None:
    waiter = TrackingWaiter(endpoint, LISTS, system_environment(), 5.0)
    task = await waiting(waiter)
    for connection in client.client_list():
        if connection["sub"] == ("1" if kind == "pubsub" else "0"):
            client.client_kill_filter(_id=connection["id"], skipme=True)
    client.lpush("q", b"message")

    try:
        async with asyncio.timeout(2):
            await task
    finally:
        await waiter.close()


async def test_waiting_costs_the_server_next_to_nothing(broker: RedisBroker, client: Client) -> None:
    consumer = consume(broker, "a", "b", "c")
    task = asyncio.create_task(consumer.receive(1))
    await asyncio.sleep(0.2)
    before = client.info("stats")["total_commands_processed"]
    await asyncio.sleep(1.0)
    spent = client.info("stats")["total_commands_processed"] - before
    task.cancel()
    await asyncio.wait([task])

    assert spent <= 10


async def test_an_idle_consumer_is_woken_within_milliseconds(broker: RedisBroker) -> None:
    consumer = consume(broker, "q")
    delays: list[float] = []
    for number in range(20):
        task = asyncio.create_task(consumer.receive(1))
        await asyncio.sleep(0.03)
        started = time.perf_counter()
        await publish(broker, "q", number)
        async with asyncio.timeout(BOUND):
            batch = await task
        delays.append(time.perf_counter() - started)
        assert numbers(batch) == [number]
        await ack(consumer, batch)

    assert sorted(delays)[10] < 0.02


# -- restricted servers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forbidden", "way"),
    [(["-client|tracking"], "RotatingWaiter"), (["-client|tracking", "-blmove"], "PollingWaiter")],
)
async def test_a_restricted_server_is_waited_for_another_way(
    caplog: pytest.LogCaptureFixture, forbidden: list[str], way: str
) -> None:
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all", *forbidden)
        config = DriverConfig(
            url=f"redis://worker:pw@127.0.0.1:{server.port}/0", app="tests", environment=system_environment()
        )
        broker = RedisBroker(config)
        consumer = consume(broker, "q")
        with caplog.at_level(logging.INFO):
            task = asyncio.create_task(consumer.receive(1))
            await until(lambda: way in caplog.text)
        await asyncio.sleep(0.1)

        await publish(broker, "q", 1)

        async with asyncio.timeout(BOUND):
            assert numbers(await task) == [1]
        await broker.close()


async def test_a_full_server_makes_a_rotating_waiter_look_and_not_spin() -> None:
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        waiter = RotatingWaiter(parse_endpoint(server.url()), ["q"], system_environment(), 5.0)
        client.config_set("maxmemory", 1)
        before = client.info("stats")["total_commands_processed"]
        async with asyncio.timeout(BOUND):
            await waiter.wait()

        assert client.info("stats")["total_commands_processed"] - before < 10
        await waiter.close()


async def test_the_best_way_is_tracking(endpoint: Endpoint, client: Client) -> None:
    waiter = make_waiter(endpoint, LISTS, system_environment(), 5.0)
    task = await waiting(waiter)
    commands = {connection["cmd"] for connection in client.client_list()}
    task.cancel()
    await asyncio.wait([task])
    await waiter.close()

    assert "blmove" not in commands
    assert client.pubsub_numsub("__redis__:invalidate")[0][1] == 0
