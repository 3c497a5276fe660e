"""asyncq and Celery on one RabbitMQ: the same exchanges, queues and bindings, messages both ways, one fleet."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from msgspec import Struct

from asyncq import AsyncQ, Context
from asyncq._clock import new_id
from asyncq.protocol import WireMessage
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from interop.test_mixed_fleet import recording
from servers import RabbitServer
from waiting import until

pytestmark = pytest.mark.interop

#: Kinds of queues, as both sides' settings say it.
KINDS: dict[str, dict[str, Any]] = {
    "classic": {},
    "priority": {"task_queue_max_priority": 10},
    "quorum": {"task_default_queue_type": "quorum"},
}


class Place(Struct, frozen=True):
    """A queue of one test on RabbitMQ, and where its results go."""

    url: str
    backend: str
    name: str
    conf: dict[str, Any]

    def worker(self, folder: Path) -> CeleryWorker:
        return CeleryWorker(self.url, folder, queue=self.name, backend=self.backend, **self.conf)

    def celery_client(self) -> CeleryClient:
        return CeleryClient(self.url, backend=self.backend, task_default_queue=self.name, **self.conf)

    def app(self) -> AsyncQ:
        return AsyncQ("interop", broker=self.url, backend=self.backend, default_queue=self.name, **self.conf)


@pytest.fixture(params=KINDS)
def place(rabbit: RabbitServer, url: str, request: pytest.FixtureRequest) -> Place:
    name = f"interop-{new_id()[:8]}-{request.param}"  # the node is shared with other test processes
    return Place(rabbit.url(), url, name, KINDS[request.param])


@pytest.fixture
async def app(place: Place) -> AsyncIterator[AsyncQ]:
    async with place.app() as app:
        yield app


@pytest.fixture
async def theirs(place: Place) -> AsyncIterator[CeleryClient]:
    async with place.celery_client() as client:
        yield client


@pytest.mark.slow
async def test_both_kinds_of_worker_share_a_backlog_exactly_once(
    place: Place, app: AsyncQ, theirs: CeleryClient, tmp_path: Path
) -> None:
    """2,000 tasks, half from either client; every tenth is retried twice by whoever has it."""
    async with place.worker(tmp_path) as worker:
        recording(app, worker)
        gate = worker.gate("backlog")
        await app.send_task("interop.hold", [str(gate.path)])
        await until(lambda: bool(worker.ledger.entries("HELD")))
        retries = {f"{place.name}-{number}": 2 if number % 10 == 0 else 0 for number in range(2000)}
        ids = list(retries)
        await app.send_many(
            [
                app.signature({"task": "interop.record", "args": [retries[name]], "options": {"task_id": name}})
                for name in ids[:1000]
            ]
        )
        for name in ids[1000:]:
            await theirs.send("interop.record", [retries[name]], task_id=name)

        gate.open()
        async with app.worker(concurrency=4):
            values = await asyncio.gather(*(app.result(name).get(50) for name in ids))

        assert worker.ledger.runs("RUN") == {name: 1 + retries[name] for name in ids}
        assert Counter(values).keys() == {"asyncq", "celery"}
        assert await theirs.get(ids[0]) == values[0]


@pytest.mark.slow
async def test_two_thousand_tasks_of_celerys_client_run_once_each(
    place: Place, app: AsyncQ, theirs: CeleryClient
) -> None:
    ran: Counter[int] = Counter()

    @app.task(name="interop.note", ignore_result=True)
    async def note(number: int) -> None:
        ran[number] += 1

    def send(client: Celery) -> None:
        for number in range(2000):
            client.send_task("interop.note", [number], ignore_result=True)

    async with app.worker() as worker:
        await theirs.run(send)
        await until(lambda: worker.stats.succeeded == 2000, timeout=50)
    assert ran == Counter(range(2000))


@pytest.mark.soak  # a Celery worker needs a minute for them, on a busy machine
@pytest.mark.timeout(200)
async def test_two_thousand_tasks_of_asyncqs_client_run_once_each(place: Place, app: AsyncQ, tmp_path: Path) -> None:
    ids = [f"{place.name}-{number}" for number in range(2000)]
    async with place.worker(tmp_path) as worker:
        await app.send_many(
            [app.signature({"task": "interop.record", "args": [0], "options": {"task_id": name}}) for name in ids]
        )
        await until(lambda: worker.ledger.count("RUN") >= 2000, timeout=150)
        assert worker.ledger.runs("RUN") == Counter(ids)


async def test_celery_sends_and_asyncq_runs(place: Place, app: AsyncQ, theirs: CeleryClient) -> None:
    @app.task(name="interop.describe")
    async def describe(ctx: Context, *args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs, dict(ctx.headers), ctx.root_id == ctx.task_id]

    async with app.worker():
        value = await theirs.call(
            "interop.describe", [1, "zwei"], {"k": [0.1, None]}, priority=7, headers={"tenant": "acme", "ratio": 0.1}
        )
    assert value == [[1, "zwei"], {"k": [0.1, None]}, {"tenant": "acme", "ratio": 0.1}, True]


async def test_asyncq_sends_and_celery_runs(place: Place, app: AsyncQ, tmp_path: Path) -> None:
    async with place.worker(tmp_path):
        result = await app.send_task(
            "interop.describe", [1], priority=7, headers={"tenant": "acme", "ratio": 0.1, "big": 2**40, "small": 200}
        )
        seen = await result.get(20)
    assert seen["headers"] == {"tenant": "acme", "ratio": 0.1, "big": 2**40, "small": 200}
    assert seen["delivery_info"]["priority"] == 7
    assert (seen["id"], seen["correlation_id"]) == (result.id, result.id)


async def test_an_eta_of_celerys_client_is_kept(place: Place, app: AsyncQ, theirs: CeleryClient) -> None:
    @app.task(name="interop.clock")
    async def clock() -> float:
        return time.time()

    async with app.worker() as worker:
        due = time.time() + 1.5
        ran = await theirs.call("interop.clock", countdown=1.5)
        assert due - 0.01 <= ran < due + 2
        assert worker.stats.parked == 1


async def test_an_eta_of_asyncqs_client_is_kept_by_celery(place: Place, app: AsyncQ, tmp_path: Path) -> None:
    async with place.worker(tmp_path):
        due = time.time() + 1.5
        ran = await (await app.send_task("interop.clock", countdown=1.5)).get(20)
    assert due - 0.01 <= ran < due + 3


async def test_what_asyncq_has_parked_celery_may_run(place: Place, app: AsyncQ, tmp_path: Path) -> None:
    """No asyncq worker has to live for it to come back."""

    @app.task(name="interop.clock")
    async def clock() -> float: ...

    due = time.time() + 6
    result = await clock.options(countdown=6).send()
    async with app.worker() as worker:
        await until(lambda: worker.stats.parked == 1)
    async with place.worker(tmp_path):
        assert due - 0.01 <= await result.get(20) < due + 3


# -- Celery's native delayed delivery, for quorum queues whose exchange is not direct -------------------------------


@pytest.fixture
def native(rabbit: RabbitServer, url: str) -> Place:
    conf = {"task_default_queue_type": "quorum", "task_default_exchange_type": "topic"}
    return Place(rabbit.url(), url, f"interop-{new_id()[:8]}.native", conf)


async def test_what_celerys_client_delays_natively_asyncq_runs_when_it_is_due(native: Place) -> None:
    async with native.app() as app, native.celery_client() as theirs:

        @app.task(name="interop.clock")
        async def clock() -> float:
            return time.time()

        broker = app.make_broker()
        await broker.open()
        try:
            async with app.worker() as worker:
                due = time.time() + 6.5
                task_id = await theirs.send("interop.clock", countdown=6.5)
                [delayed] = await broker.peek(native.name, "parked")
                assert isinstance(delayed.content, WireMessage)
                assert delayed.content.headers["id"] == task_id
                assert worker.stats.received == 0  # RabbitMQ holds it, and nobody else does
                assert await theirs.get(task_id) >= due - 0.01
        finally:
            await broker.close()


async def test_natively_delayed_dates_are_kept_by_celery(native: Place, tmp_path: Path) -> None:
    """What asyncq's client sends with an ETA, and what asyncq's worker has parked."""
    async with native.app() as app:

        @app.task(name="interop.clock")
        async def clock() -> float: ...

        async with app.worker() as worker:
            due = time.time() + 6
            parked = await clock.options(countdown=6).send()
            await until(lambda: worker.stats.parked == 1)
        async with native.worker(tmp_path):
            assert await parked.get(20) >= due - 0.01
            due = time.time() + 1.5
            assert await (await clock.options(countdown=1.5).send()).get(20) >= due - 0.01


# -- results as replies --------------------------------------------------------------------------------------------


async def test_replies_of_asyncqs_workers_reach_celerys_clients(rabbit: RabbitServer) -> None:
    name = f"interop-{new_id()[:8]}-rpc"
    url = rabbit.url()
    async with (
        AsyncQ("interop", broker=url, backend="rpc://", default_queue=name, track_started=True) as app,
        CeleryClient(url, backend="rpc://", task_default_queue=name) as client,
    ):

        @app.task(name="interop.add")
        async def add(a: int, b: int = 0) -> int:
            return a + b

        async with app.worker():
            assert await client.call("interop.add", [1, 2]) == 3


async def test_replies_of_celerys_workers_reach_asyncqs_clients(rabbit: RabbitServer, tmp_path: Path) -> None:
    name = f"interop-{new_id()[:8]}-rpc"
    url = rabbit.url()
    async with (
        CeleryWorker(url, tmp_path, queue=name, backend="rpc://"),
        AsyncQ("interop", broker=url, backend="rpc://", default_queue=name) as app,
    ):
        assert await (await app.send_task("interop.add", [1, 2])).get(20) == 3
        with pytest.raises(ValueError, match="boom"):
            await (await app.send_task("interop.fail", ["builtin"])).get(20)
