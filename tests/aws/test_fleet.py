"""Seeing and steering workers on SQS, where nothing can be sent to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from asyncq import AsyncQ
from asyncq._clock import new_id
from asyncq._coordination import coordination_of
from asyncq._presence import Command, Presence, post, workers
from asyncq.errors import TaskRevokedError
from aws.moto_server import MotoServer
from cli.kit import PATIENCE, Shell
from servers import RedisServer
from waiting import until

pytestmark = pytest.mark.timeout(300)  # five commands, of two seconds each on a machine that does nothing else

APP = """
from asyncq import AsyncQ

queue = AsyncQ("shop", broker={broker!r}, backend={backend!r}, broker_transport_options={options!r})


@queue.task(name="shop.add")
async def add(a: int, b: int) -> int:
    return a + b
"""


_databases = count(1)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["dynamodb", "redis"])
def settings(request: pytest.FixtureRequest, moto: MotoServer) -> dict[str, object]:
    """Letter boxes are where results are: in DynamoDB, or in Redis."""
    if request.param == "redis":
        backend = request.getfixturevalue("redis").url(next(_databases))
    else:
        backend = f"dynamodb://testing:testing@127.0.0.1:{moto.port}/fleet-{new_id()[:8]}"
    return {
        "broker": moto.sqs_url,
        "backend": backend,
        "broker_transport_options": {
            "region": "us-east-1",
            "queue_name_prefix": f"{new_id()[:8]}-",
            "wait_time_seconds": 1,
        },
    }


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncq.worker._visibility.INTERVAL", 0.2)


@pytest.fixture
def shell(settings: dict[str, object], tmp_path: Path) -> Shell:
    """Its folder has the app `fleet_app:queue`."""
    options = settings["broker_transport_options"]
    source = APP.format(broker=settings["broker"], backend=settings["backend"], options=options)
    (tmp_path / "fleet_app.py").write_text(source)
    return Shell(tmp_path)


class Fleet:
    """A look at what workers tell, from outside."""

    def __init__(self, queue: AsyncQ) -> None:
        backend = queue.make_backend()
        assert backend is not None
        self._backend = backend
        found = coordination_of(backend, queue.make_broker())
        assert found is not None
        self.coordination = found

    async def __aenter__(self) -> Self:
        await self._backend.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._backend.close()

    async def until(self, done: Callable[[list[Presence]], bool]) -> list[Presence]:
        async with asyncio.timeout(PATIENCE):
            while not done(found := await workers(self.coordination)):
                await asyncio.sleep(0.05)
        return found


async def test_workers_tell_what_they_run_and_do_what_they_are_told(settings: dict[str, object]) -> None:
    queue = AsyncQ("shop", **settings)  # type: ignore[arg-type] - settings of three types
    gate = asyncio.Event()

    @queue.task(name="shop.wait")
    async def wait() -> None:
        await gate.wait()

    async with queue, Fleet(queue) as fleet, queue.worker(concurrency=1) as worker:
        await fleet.until(lambda found: [each.node for each in found] == [worker.node])
        first, second = [await wait.send() for _ in range(2)]
        [seen] = await fleet.until(lambda found: found[0].running_count == 1)
        assert [running.task for running in seen.running] == ["shop.wait"]
        assert seen.running[0].id in {first.id, second.id}
        assert seen.running[0].since <= seen.seen
        assert (seen.concurrency, seen.queues) == (1, ["celery"])

        await post(fleet.coordination, [worker.node], Command(do="concurrency", amount=2), new_id=new_id)
        [seen] = await fleet.until(lambda found: found[0].running_count == 2)
        assert (seen.concurrency, worker.concurrency) == (2, 2)

        gate.set()
        await fleet.until(lambda found: found[0].succeeded == 2)
        await post(fleet.coordination, [worker.node], Command(do="shutdown"), new_id=new_id)
        async with asyncio.timeout(PATIENCE):
            await worker.wait()
        assert await workers(fleet.coordination) == []


@pytest.mark.parametrize("settings", ["dynamodb"], indirect=True)
async def test_the_commands(settings: dict[str, object], shell: Shell) -> None:
    queue = AsyncQ("shop", **settings)  # type: ignore[arg-type] - settings of three types
    async with Fleet(queue) as fleet:
        assert (await shell.run("status", "fleet_app:queue", "--json")).document == {"workers": []}
        async with queue.worker() as worker:
            await fleet.until(lambda found: len(found) == 1)
            told = await shell.run("status", "fleet_app:queue", "--json")
            assert [found["node"] for found in told.document["workers"]] == [worker.node]
            assert worker.node in (await shell.run("status", "fleet_app:queue")).out
            unknown = await shell.run("control", "shutdown", "fleet_app:queue", "--worker", "nobody@here")
            assert "no worker nobody@here" in unknown.err
            done = await shell.run("control", "shutdown", "fleet_app:queue", "--json")
            assert (done.code, done.document) == (0, {"told": [worker.node]})
            async with asyncio.timeout(PATIENCE):
                await worker.wait()


@pytest.mark.parametrize("settings", ["redis"], indirect=True)
async def test_the_commands_by_way_of_redis(settings: dict[str, object], shell: Shell) -> None:
    queue = AsyncQ("shop", **settings)  # type: ignore[arg-type] - settings of three types

    @queue.task(name="shop.wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    async def tell(command: str, *arguments: str) -> dict[str, Any]:
        finished = await shell.run("control", command, "fleet_app:queue", *arguments, "--json")
        assert finished.code == 0, finished.err
        return finished.document

    async with queue, Fleet(queue) as fleet, queue.worker() as worker:
        waiting = await wait.send()
        await fleet.until(lambda found: bool(found) and found[0].running_count == 1)
        [seen] = (await shell.run("status", "fleet_app:queue", "--json")).document["workers"]
        assert (seen["node"], [each["id"] for each in seen["running"]]) == (worker.node, [waiting.task_id])

        assert await tell("concurrency", "7", "--worker", worker.node) == {"told": [worker.node]}
        await until(lambda: worker.concurrency == 7, timeout=PATIENCE)

        [revoked] = (await tell("revoke", waiting.task_id, "--terminate"))["cancelled"]
        assert revoked["revoked"]
        with pytest.raises(TaskRevokedError):
            await waiting.get(PATIENCE)

        assert await tell("shutdown") == {"told": [worker.node]}
        async with asyncio.timeout(PATIENCE):
            await worker.wait()
