"""asyncq and real Celery on one SQS and one DynamoDB (moto's)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from celery import Celery
from celery import chord as celery_chord
from celery.exceptions import ChordError as CeleryChordError

from asyncq import AsyncQ, AsyncResult, ChordError, Context, chord
from asyncq._clock import new_id
from aws.moto_server import MotoServer
from interop.celery_client import CeleryClient
from interop.celery_worker import CeleryWorker
from waiting import Gate, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

#: As in a celeryconfig; one namespace for the module's queues.
Conf = dict[str, Any]

#: The queue that the Celery worker serves.
THEIRS = "theirs"


class CeleryOnAws(CeleryClient):
    """A Celery client whose backend is no Redis."""

    def _close(self, app: Celery) -> None:
        self._results.clear()
        app.close()


@pytest.fixture(scope="module")
def conf() -> Conf:
    options = {"region": "us-east-1", "queue_name_prefix": f"{new_id()[:8]}-", "wait_time_seconds": 1}
    return {"broker_transport_options": {**options, "polling_interval": 0.1}}


@pytest.fixture(scope="module")
def backend_url(moto: MotoServer) -> str:
    return f"dynamodb://testing:testing@127.0.0.1:{moto.port}/interop"


@pytest.fixture
def ours() -> str:
    """The queue of a test's asyncq worker. Its own, for moto goes on with the long poll of one that has ended."""
    return f"ours-{new_id()[:8]}"


@pytest.fixture
async def queue(moto: MotoServer, backend_url: str, conf: Conf, ours: str) -> AsyncIterator[AsyncQ]:
    async with AsyncQ("interop", broker=moto.sqs_url, backend=backend_url, default_queue=ours, **conf) as queue:
        yield queue


@pytest.fixture
async def celery(moto: MotoServer, backend_url: str, conf: Conf, ours: str) -> AsyncIterator[CeleryClient]:
    async with CeleryOnAws(moto.sqs_url, backend=backend_url, task_default_queue=ours, **conf) as client:
        yield client


@pytest.fixture(scope="module")
def celery_worker(
    moto: MotoServer, backend_url: str, conf: Conf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CeleryWorker]:
    folder = tmp_path_factory.mktemp("celery")
    with CeleryWorker(moto.sqs_url, folder, queue=THEIRS, backend=backend_url, **conf) as worker:
        yield worker


async def test_a_celery_client_calls_tasks_of_an_asyncq_worker(queue: AsyncQ, celery: CeleryClient) -> None:
    attempts: list[int] = []

    @queue.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @queue.task(name="interop.stubborn", max_retries=3)
    async def stubborn(ctx: Context) -> int:
        attempts.append(ctx.retries)
        if ctx.retries < 2:
            raise ctx.retry(countdown=1)
        return ctx.retries

    @queue.task(name="interop.fail", max_retries=0)
    async def fail() -> None:
        raise ValueError("boom", 1)

    async with queue.worker(concurrency=5):
        assert await celery.call("interop.add", [1], {"b": 2}) == 3
        assert await celery.call("interop.stubborn") == 2
        assert attempts == [0, 1, 2]
        with pytest.raises(ValueError, match="boom"):
            await celery.call("interop.fail")
        sent = time.time()
        assert await celery.call("interop.add", [5], countdown=2) == 5
        assert time.time() - sent >= 2
        ids = [await celery.send("interop.add", [number]) for number in range(30)]
        assert [await celery.get(task_id) for task_id in ids] == list(range(30))


async def test_an_asyncq_client_calls_tasks_of_a_celery_worker(queue: AsyncQ, celery_worker: CeleryWorker) -> None:
    async def send(name: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        return await queue.send_task(f"interop.{name}", args, queue=THEIRS, **options)

    assert await (await send("add", 1, 2)).get(timeout=30) == 3
    with pytest.raises(ValueError, match="boom"):
        await (await send("fail", "builtin")).get(timeout=30)
    gate = celery_worker.gate("retry")
    gate.open()
    assert await (await send("retry", str(gate.path), 2)).get(timeout=30) == 2
    sent = time.time()
    assert await (await send("clock", countdown=2)).get(timeout=30) >= sent + 2
    results = [await send("add", number) for number in range(20)]
    assert [await result.get(timeout=30) for result in results] == list(range(20))


# -- chords ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def worker(queue: AsyncQ) -> AsyncIterator[asyncio.Event]:
    """An asyncq worker with Celery's tasks. What is held ends when the event is set."""
    opened = asyncio.Event()

    @queue.task(name="interop.add")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @queue.task(name="interop.echo")
    async def echo(*args: Any) -> list[Any]:
        return [list(args), {}]

    @queue.task(name="interop.fail", throws=(ValueError,))
    async def fail(_kind: str) -> None:
        raise ValueError("boom", 1)

    @queue.task(name="interop.held")
    async def held() -> str:
        await opened.wait()
        return "asyncq"

    async with queue.worker():
        yield opened


#: Task, arguments and queue.
Member = tuple[str, list[Any], str]


def _signature(name: str, args: list[Any], queue: str) -> dict[str, Any]:
    """As both sides read it."""
    options = {"queue": queue}
    return {"task": name, "args": args, "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}


class Sender:
    """Sends chords whose body echoes what it gets, and waits for them: as a Celery client, or as asyncq's own."""

    def __init__(self, client: CeleryClient | AsyncQ, body_queue: str) -> None:
        self._client = client
        self._body: Member = ("interop.echo", [], body_queue)

    async def send(self, *header: Member) -> tuple[str, str]:
        """Returns the ids of body and header."""
        client, members, body = self._client, [_signature(*member) for member in header], _signature(*self._body)
        if isinstance(client, AsyncQ):
            result = await chord(map(client.signature, members), client.signature(body)).send()
            assert result.parent is not None
            return result.task_id, result.parent.task_id

        def send(app: Celery) -> tuple[str, str]:
            result = celery_chord(list(map(app.signature, members)), app=app)(app.signature(body))
            return result.id, result.parent.id

        return await client.run(send)

    async def value(self, body: str) -> Any:
        client = self._client
        [[value], _] = await (
            client.result(body).get(60) if isinstance(client, AsyncQ) else client.get(body, timeout=60)
        )
        return value


@pytest.fixture(params=["asyncq", "celery"])
def sender(request: pytest.FixtureRequest, queue: AsyncQ, celery: CeleryClient, ours: str) -> Sender:
    """A client of either kind; the body is for the other kind of worker."""
    return Sender(queue, THEIRS) if request.param == "asyncq" else Sender(celery, ours)


@pytest.fixture
def count(moto: MotoServer) -> Iterator[Callable[[str], str]]:
    """How many parts of a chord were counted."""
    client: Any = boto3.client("dynamodb", endpoint_url=moto.endpoint, region_name="us-east-1")

    def count(group: str) -> str:
        key = {"id": {"S": str(f"chord-unlock-{group}".encode())}}
        return client.get_item(TableName="interop", Key=key)["Item"]["chord_count"]["N"]

    yield count
    client.close()


async def test_a_chord_is_run_by_workers_of_both_kinds(
    sender: Sender,
    worker: asyncio.Event,
    celery_worker: CeleryWorker,
    ours: str,
    count: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Each header by one kind, and by both, whichever kind of worker ends last."""
    add = "interop.add"
    alone, _ = await sender.send((add, [1, 1], ours), (add, [2, 2], ours), (add, [3, 3], ours))
    assert await sender.value(alone) == [2, 4, 6]
    theirs, _ = await sender.send((add, [1, 1], THEIRS), (add, [2, 2], THEIRS))
    assert await sender.value(theirs) == [2, 4]

    body, group = await sender.send(("interop.held", [], ours), (add, [3, 4], THEIRS), (add, [5, 6], ours))
    await until(lambda: count(group) == "2", timeout=60)
    worker.set()
    assert await sender.value(body) == ["asyncq", 7, 11]

    gate = Gate(tmp_path / "gate")
    body, group = await sender.send((add, [1, 2], ours), ("interop.hold", [str(gate.path)], THEIRS))
    await until(lambda: count(group) == "1", timeout=60)
    gate.open()
    assert await sender.value(body) == [3, "celery"]


async def test_a_failed_member_fails_a_chord_whoever_ends_it(
    sender: Sender, worker: asyncio.Event, celery_worker: CeleryWorker, ours: str, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    by_us, _ = await sender.send(("interop.fail", ["builtin"], THEIRS), ("interop.held", [], ours))
    by_them, _ = await sender.send(("interop.fail", ["builtin"], ours), ("interop.hold", [str(gate.path)], THEIRS))
    worker.set()
    gate.open()
    for body in (by_us, by_them):
        with pytest.raises((ChordError, CeleryChordError), match=r"ValueError\('boom', 1\)"):
            await sender.value(body)
