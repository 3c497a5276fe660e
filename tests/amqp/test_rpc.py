"""Results as replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from struct import pack

import pytest
from pamqp import commands

import golden
from amqp_kit import BOUND, queue_name
from asyncq import AsyncQ, Context
from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, StoredResult
from asyncq.errors import BackendConnectionError, BackendError, ResultTimeout
from asyncq_backends.rpc import RpcBackend
from asyncq_brokers._clients.amqp import Link, Outgoing, Outlet, encode_route, read_backend_config
from chaos.proxy import Proxy
from servers import RabbitServer
from waiting import until


@pytest.fixture
async def app(url: str) -> AsyncIterator[AsyncQ]:
    async with AsyncQ("rpc", broker=url, backend="rpc://", default_queue=queue_name(), track_started=True) as app:

        @app.task(name="rpc.add")
        async def add(a: int, b: int) -> int:
            return a + b

        @app.task(name="rpc.fail")
        async def fail() -> None:
            raise ValueError("boom")

        @app.task(name="rpc.steps")
        async def steps(ctx: Context) -> str:
            await ctx.progress({"done": 1})
            return "done"

        yield app


def make_backend(url: str) -> RpcBackend:
    return RpcBackend(config_of(url))


def config_of(url: str) -> DriverConfig:
    return DriverConfig(url=url, app="tests", environment=system_environment())


async def test_results_come_back_to_their_sender(app: AsyncQ) -> None:
    async with app.worker():
        results = await app.send_many([app.signature({"task": "rpc.add", "args": [n, 1]}) for n in range(50)])
        assert [await result.get(10) for result in results] == list(range(1, 51))
        with pytest.raises(ValueError, match="boom"):
            await (await app.send_task("rpc.fail")).get(10)
        states = [state.status async for state in await app.send_task("rpc.steps")]
        assert states[-1] == "SUCCESS"


async def test_nobody_else_gets_them(url: str, app: AsyncQ) -> None:
    async with app.worker():
        result = await app.send_task("rpc.add", [1, 2])
        assert await result.get(10) == 3
        async with AsyncQ("other", broker=url, backend="rpc://") as other:
            with pytest.raises(ResultTimeout):
                await other.result(result.id).get(0.2)


async def test_the_wire_is_celerys(url: str) -> None:
    """Properties and body as captured from a Celery worker."""
    fixture = golden.load("results", "rpc-success-2of2")
    message = golden.amqp_message(fixture)
    sender, worker = make_backend(url), make_backend(url)
    try:
        await sender.open()
        address = await sender.reply_address()
        task_id = message.properties.correlation_id
        assert task_id is not None
        reply = StoredResult(task_id=task_id, record=message.body, status="SUCCESS", reply_to=address)
        unasked = StoredResult(task_id="x", record=message.body, status="SUCCESS")
        nobody = StoredResult(task_id="y", record=message.body, status="SUCCESS", reply_to="gone")
        async with asyncio.timeout(10):
            async with sender.watch([task_id]) as changes:
                assert await worker.store([unasked, nobody, reply]) == [True] * 3
                assert await anext(aiter(changes)) == (task_id, message.body)
        assert await sender.get([task_id, "x", "y"]) == [message.body, None, None]
        await sender.forget([task_id])
        assert await sender.get([task_id]) == [None]
    finally:
        await sender.close()
        await worker.close()
    with pytest.raises(BackendConnectionError):
        await sender.get(["x"])


async def test_replies_survive_a_lost_connection(server: RabbitServer, vhost: str, url: str) -> None:
    async with Proxy(server.port) as proxy:
        sender = make_backend(url.replace(str(server.port), str(proxy.port)))
        worker = make_backend(url)
        try:
            await sender.open()
            address = await sender.reply_address()
            proxy.refuse()
            proxy.reset()
            record = b'{"status": "SUCCESS"}'
            await worker.store([StoredResult(task_id="t", record=record, status="SUCCESS", reply_to=address)])
            proxy.heal()
            await until(lambda: _is_there(sender, record))
        finally:
            await sender.close()
            await worker.close()


async def _is_there(backend: RpcBackend, record: bytes) -> bool:
    return await backend.get(["t"]) == [record]


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[RpcBackend, RpcBackend]]:
    """Who sends, and who works."""
    sender, worker = make_backend(url), make_backend(url)
    try:
        yield sender, worker
    finally:
        await sender.close()
        await worker.close()


async def test_what_is_no_reply_is_passed_over(url: str, pair: tuple[RpcBackend, RpcBackend]) -> None:
    """It ended the hearing: without an acknowledgement it came again, hundreds of times in a second."""
    sender, worker = pair
    link = Link(read_backend_config(config_of(url)), clock=system_environment().clock, timeout=10.0)
    try:
        address = await sender.reply_address()
        table = bytes(4)
        for _ in range(100):  # tables in tables: deeper than asyncq looks
            table = (len(table) + 3).to_bytes(4) + b"\x01xF" + table
        header = pack(">HHQH", 60, 0, 2, 1 << 13) + table
        odd = Outgoing(encode_route("", address), header, b"{}")
        assert await Outlet(link).publish([odd], link.deadline()) == {}
        record = b'{"status": "SUCCESS"}'
        too_long = StoredResult(task_id="t" * 300, record=record, status="SUCCESS", reply_to=address)
        await worker.store([too_long, StoredResult(task_id="t", record=record, status="SUCCESS", reply_to=address)])
        await until(lambda: _is_there(sender, record))
        assert len(channels_of(sender)) == 1
    finally:
        await link.close()


async def test_an_end_is_not_taken_back(pair: tuple[RpcBackend, RpcBackend]) -> None:
    """Of a task that runs twice, one run may still be on its way when the other has told its result."""
    sender, worker = pair
    address = await sender.reply_address()

    async def tell(*states: str) -> None:
        records = [record_of(state) for state in states]
        await worker.store([StoredResult(task_id="t", record=r, status="", reply_to=address) for r in records])
        await worker.store([StoredResult(task_id="last", record=records[-1], status="", reply_to=address)])
        async with sender.watch(["last"]) as changes:
            async for _, record in changes:
                if record == records[-1]:
                    break

    async with asyncio.timeout(BOUND):
        await tell("RETRY", "STARTED", "FAILURE", "STARTED", "RETRY")
        assert await sender.get(["t"]) == [record_of("FAILURE")]
        await sender.forget(["last"])
        await tell("SUCCESS", "STARTED", "FAILURE")
        assert await sender.get(["t"]) == [record_of("SUCCESS")]


def record_of(state: str) -> bytes:
    return b'{"task_id": "t", "status": "%b", "result": null, "traceback": null, "children": []}' % state.encode()


async def test_each_hearing_leaves_its_channel(url: str, pair: tuple[RpcBackend, RpcBackend]) -> None:
    sender, worker = pair
    address = await sender.reply_address()
    link = Link(read_backend_config(config_of(url)), clock=system_environment().clock, timeout=10.0)

    async def heard() -> bool:
        await worker.store([StoredResult(task_id="t", record=b"{}", status="SUCCESS", reply_to=address)])
        return await _is_there(sender, b"{}")

    try:
        for _ in range(3):
            channel = await link.channel(link.deadline())
            await channel.call(commands.Queue.Delete(0, address), link.deadline())
            await sender.forget(["t"])
            await until(heard)
        assert len(channels_of(sender)) == 1
    finally:
        await link.close()


def channels_of(backend: RpcBackend) -> set[object]:
    connection = backend._link._connection
    assert connection is not None
    return set(connection._channels.values())


async def test_a_refusal_is_told_to_each_sender_until_it_is_lifted(server: RabbitServer, vhost: str) -> None:
    user = f"deaf-{vhost}"
    await asyncio.to_thread(server.add_user, user, "secret", vhost, configure="^$")
    backend = make_backend(server.url(vhost).replace("guest:guest", f"{user}:secret"))
    try:
        for _ in range(2):
            with pytest.raises(BackendError, match="ACCESS_REFUSED") as told:
                await backend.reply_address()
            assert not isinstance(told.value, BackendConnectionError)
        await asyncio.to_thread(server.control, "set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")

        async def heard() -> bool:
            with suppress(BackendError):
                return bool(await backend.reply_address())
            return False

        await until(heard)
    finally:
        await backend.close()
