"""Seeing and steering workers on SQS, where nothing can be sent to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from asyncq import AsyncQ
from asyncq._clock import new_id
from asyncq._coordination import coordination_of
from asyncq._presence import Command, Presence, post, workers
from aws.moto_server import MotoServer
from cli.kit import Shell

APP = """
from asyncq import AsyncQ

queue = AsyncQ("shop", broker={broker!r}, backend={backend!r}, broker_transport_options={options!r})


@queue.task(name="shop.add")
async def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.fixture
def settings(moto: MotoServer) -> dict[str, object]:
    return {
        "broker": moto.sqs_url,
        "backend": f"dynamodb://testing:testing@127.0.0.1:{moto.port}/fleet-{new_id()[:8]}",
        "broker_transport_options": {
            "region": "us-east-1",
            "queue_name_prefix": f"{new_id()[:8]}-",
            "wait_time_seconds": 1,
        },
    }


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncq.worker._visibility.INTERVAL", 0.2)


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
        async with asyncio.timeout(15):
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
        async with asyncio.timeout(15):
            await worker.wait()
        assert await workers(fleet.coordination) == []


async def test_the_commands(settings: dict[str, object], tmp_path: Path) -> None:
    source = APP.format(
        broker=settings["broker"], backend=settings["backend"], options=settings["broker_transport_options"]
    )
    (tmp_path / "fleet_app.py").write_text(source)
    queue = AsyncQ("shop", **settings)  # type: ignore[arg-type] - settings of three types

    shell = Shell(tmp_path)

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
            async with asyncio.timeout(15):
                await worker.wait()
