"""A worker on RabbitMQ: what it retries, refuses, does not know, and is told to do later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pamqp import commands

from amqp_kit import NewBroker, message, queue_name
from asyncq import AsyncQ, Context
from asyncq.driver import Publication
from asyncq.errors import BrokerConnectionError, Reject
from asyncq.worker import _settler
from asyncq_brokers._clients.amqp import Link, Refused
from servers import RabbitServer
from waiting import until


@pytest.fixture(params=["classic", "quorum"])
async def app(url: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncQ]:
    async with AsyncQ(
        "tests", broker=url, backend="rpc://", default_queue=queue_name(), default_queue_type=request.param
    ) as app:
        yield app


async def test_a_retry_waits_in_the_delay_queues(app: AsyncQ) -> None:
    started: list[float] = []

    @app.task(name="tests.retried")
    async def retried(ctx: Context) -> int:
        started.append(time.monotonic())
        if ctx.retries < 1:
            raise ctx.retry(countdown=1)
        return ctx.retries

    async with app.worker() as worker:
        assert await (await retried.send()).get(15) == 1
    assert 1 <= started[1] - started[0] < 4
    assert worker.stats.retried == 1


async def test_a_rejected_task_stands_in_the_dead_letters(app: AsyncQ) -> None:
    @app.task(name="tests.refused")
    async def refused() -> None:
        raise Reject("no")

    async with app.worker() as worker:
        await refused.send()
        await until(lambda: worker.stats.dead == 1)
    broker = app.make_broker()
    await broker.open()
    try:
        name = app.settings.default_queue
        (letter,) = await broker.peek(name, "dead")
        assert not isinstance(letter.content, bytes)
        assert letter.content.headers["asyncq-dead"]["reason"] == "rejected: no"
        assert await broker.move(name, "dead", [letter.key]) == 1
        assert (await broker.depth(name)).ready == 1
    finally:
        await broker.close()


async def test_an_early_acknowledged_task_that_asks_for_another_run_gets_it(app: AsyncQ) -> None:
    runs: list[bool] = []

    @app.task(name="tests.again", acks_late=False)
    async def again(ctx: Context) -> str:
        runs.append(ctx.redelivered)
        if len(runs) < 2:
            raise Reject(requeue=True)
        return "done"

    async with app.worker():
        assert await (await again.send()).get(15) == "done"


async def test_many_tasks_run_once_each_whatever_the_order(app: AsyncQ) -> None:
    ran: list[int] = []

    @app.task(name="tests.note", ignore_result=True)
    async def note(number: int) -> None:
        await asyncio.sleep(0.001 * (number % 7))
        ran.append(number)

    await app.send_many([note.s(number) for number in range(1000)])
    async with app.worker(concurrency=10), app.worker(concurrency=50):
        await until(lambda: len(ran) >= 1000)
        await asyncio.sleep(0.2)  # for what should not come
    assert sorted(ran) == list(range(1000))


async def test_a_worker_goes_on_after_a_restart(own_server: RabbitServer) -> None:
    ran: list[int] = []
    async with AsyncQ("tests", broker=own_server.url(), default_queue=queue_name(), network_timeout=5) as app:

        @app.task(name="tests.note")
        async def note(number: int) -> None:
            ran.append(number)

        async def send(number: int) -> bool:
            try:
                await note.send(number)
            except BrokerConnectionError:
                return False
            return True

        async with app.worker():
            await note.send(1)
            await until(lambda: ran == [1])
            await asyncio.to_thread(own_server.kill)
            assert not await send(2)
            await asyncio.to_thread(own_server.start)
            await until(lambda: send(3))
            await until(lambda: 3 in ran)


async def test_what_can_go_neither_to_the_delay_queues_nor_to_the_dead_letters_stops_nobody(
    server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: without the right to declare those queues, each such message kept a place in the prefetch for ever."""
    monkeypatch.setattr(_settler, "_PAUSE", 1.0)
    name = vhost = queue_name()  # where no other test has made the delay queues
    await asyncio.to_thread(server.add_vhost, vhost)
    user = f"poor-{name}"
    await asyncio.to_thread(server.add_user, user, "secret", vhost, configure=f"^{name}$")
    ran: list[int] = []
    url = server.url(vhost).replace("guest:guest", f"{user}:secret")
    async with AsyncQ("tests", broker=url, default_queue=name) as app:

        @app.task(name="tests.note")
        async def note(number: int) -> None:
            ran.append(number)

        broker = app.make_broker()
        await broker.open()
        try:
            async with app.worker(concurrency=5) as worker:
                await broker.publish([Publication(message=message(b"junk"), queue=name) for _ in range(6)])
                await app.send_many([note.s(100 + number).set(countdown=2) for number in range(6)])
                await app.send_many([note.s(number) for number in range(5)])
                await until(lambda: sorted(ran) == [*range(5), *range(100, 106)])
                assert (worker.stats.dead, worker.stats.parked) == (0, 0)
                await asyncio.to_thread(server.control, "set_permissions", "-p", vhost, user, ".*", ".*", ".*")
                await until(lambda: worker.stats.dead == 6)
            depth = await broker.depth(name)
            assert (depth.ready, depth.dead) == (0, 6)
        finally:
            await broker.close()


async def test_a_task_that_runs_while_its_connection_is_lost_runs_once(
    app: AsyncQ, server: RabbitServer, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Found: its message came again at once, and ran beside it in the same process."""
    caplog.set_level("INFO", "asyncq")
    runs: list[str] = []
    go_on = asyncio.Event()

    @app.task(name="tests.long", ignore_result=True)
    async def long(ctx: Context) -> None:
        runs.append(ctx.task_id)
        await go_on.wait()

    async with app.worker() as worker:
        first, second = await long.send(), await long.send()
        await until(lambda: len(runs) == 2)
        await asyncio.to_thread(server.control, "close_all_connections", "--vhost", vhost, "test")
        await until(lambda: caplog.text.count("that run goes on") == 2)
        go_on.set()
        await until(lambda: worker.stats.succeeded == 2)
    assert sorted(runs) == sorted([first.id, second.id])
    assert (worker.stats.lost, worker.stats.handed_back) == (0, 0)
    broker = app.make_broker()
    await broker.open()
    try:
        assert (await broker.depth(app.settings.default_queue)).ready == 0
    finally:
        await broker.close()


async def test_a_worker_outlives_a_moment_without_rights(
    server: RabbitServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Found: it ended for good when it had to connect anew meanwhile."""
    name = queue_name()
    vhost, user = f"v-{name}", f"user-{name}"
    await asyncio.to_thread(server.add_vhost, vhost)
    await asyncio.to_thread(server.add_user, user, "secret", vhost, configure=".*")
    url = server.url(vhost).replace("guest:guest", f"{user}:secret")
    ran: list[int] = []
    async with AsyncQ("tests", broker=url, backend="rpc://", default_queue="q") as app:

        @app.task(name="tests.note")
        async def note(number: int) -> None:
            ran.append(number)

        async with app.worker():
            await (await note.send(1)).get(15)
            await asyncio.to_thread(server.control, "clear_permissions", "-p", vhost, user)
            await asyncio.to_thread(server.control, "close_all_connections", "--vhost", vhost, "test")
            await until(lambda: "Nothing can be received" in caplog.text)
            await asyncio.to_thread(server.control, "set_permissions", "-p", vhost, user, ".*", ".*", ".*")
            await (await note.send(2)).get(15)
    assert ran == [1, 2]


async def test_a_worker_outlives_a_queue_that_others_have_made_anew(
    app: AsyncQ, new_broker: NewBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """With other arguments it can't be used; the worker tries again until that is put right."""
    name = app.settings.default_queue
    link = (await new_broker())._looking
    ran: list[int] = []

    @app.task(name="tests.note", ignore_result=True)
    async def note(number: int) -> None:
        ran.append(number)

    async with app.worker() as worker:
        await note.send(1)
        await until(lambda: worker.stats.succeeded == 1)
        deadline = link.deadline()
        channel = await link.channel(deadline)
        made = commands.Queue.Declare(0, name, durable=True, arguments={"x-max-length": 7})
        await channel.calls([commands.Queue.Delete(0, name), made], deadline)
        await until(lambda: "exists with other arguments" in caplog.text)
        await channel.call(commands.Queue.Delete(0, name), deadline)
        channel.leave()
        await until(lambda: _consumed(link, name))
        await note.send(2)
        await until(lambda: ran == [1, 2])


async def _consumed(link: Link, queue: str) -> bool:
    """Somebody has declared the queue, and consumes."""
    channel = await link.channel(link.deadline())
    try:
        declared = await channel.call(commands.Queue.Declare(0, queue, passive=True), link.deadline())
    except Refused:
        return False
    finally:
        channel.leave()
    return declared.consumer_count > 0
