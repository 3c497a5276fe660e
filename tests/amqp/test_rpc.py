"""Results as replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

import golden
from amqp_kit import queue_name
from asyncq import AsyncQ, Context
from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, StoredResult
from asyncq.errors import BackendConnectionError, BackendError, ResultTimeout
from asyncq_backends.rpc import RpcBackend
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
    return RpcBackend(DriverConfig(url=url, app="tests", environment=system_environment()))


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
