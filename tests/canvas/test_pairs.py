"""Workflows on every pair of a broker and a result backend: they come to the same, or are refused when sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from asyncq import AsyncQ, Context, Signature, chain, chord, group
from asyncq._clock import new_id
from asyncq.errors import ConfigurationError
from asyncq.protocol import TaskMessage
from aws.moto_server import CREDENTIALS, MotoServer
from rabbit_node import run_folder, shared_node
from servers import RabbitServer, RedisServer
from waiting import PATIENCE

# `Any` below: tasks are what `declare` makes of them, and results are of whatever type.

pytestmark = pytest.mark.timeout(150)

BROKERS = ("memory", "sqlite", "redis", "amqp", "sqs")

#: Backends that bring the parts of chords together.
JOINING = ("memory", "sqlite", "redis", "dynamodb")

#: The others, and the brokers that they go with: memory and SQLite keep results wherever nothing else does.
OTHERS = [
    *((broker, "s3") for broker in BROKERS),
    *((broker, "none") for broker in ("redis", "amqp", "sqs")),
    ("amqp", "rpc"),
]

#: What an error calls them.
NAMES = {"s3": "s3://", "none": "an app without a result backend", "rpc": "rpc://"}

#: Seconds for all that an app does here: moto serves some hundred requests a second, and machines stall.
_BOUND = 4 * PATIENCE

#: A workflow, and its value; or the kind and the end of its error.
SHAPES: Mapping[str, tuple[Callable[[Any], Signature[Any]], Any]] = {
    "chain": (lambda shop: shop.add.s(1, 2) | shop.add.s(3), 6),
    "group": (lambda shop: group(shop.add.s(1, 1), shop.add.s(2, 2)), [2, 4]),
    "chord": (lambda shop: chord([shop.add.s(n, n) for n in range(5)], shop.total.s()), 20),
    "chord in a chain": (
        lambda shop: chain(shop.add.s(1, 1), group(shop.add.s(10), shop.add.s(20)), shop.total.s(), shop.add.s(100)),
        134,
    ),
    "chord in a chord": (
        lambda shop: chord(
            [chord([shop.add.s(1, 1), shop.add.s(2, 2)], shop.total.s()), shop.add.s(3, 3)], shop.total.s()
        ),
        12,
    ),
    "group in a header": (
        lambda shop: chord([shop.add.s(0, 0), shop.add.s(1, 1) | group(shop.add.s(10), shop.add.s(20))], shop.same.s()),
        [0, [12, 22]],
    ),
    "group for a body": (
        lambda shop: chord([shop.add.s(1, 1), shop.add.s(2, 2)], group(shop.total.s(), shop.same.s())),
        [6, [2, 4]],
    ),
    "failed step": (lambda shop: chain(shop.fail.s(7), shop.add.s(1), shop.add.s(2)), ("ValueError", "7")),
    "failed header": (
        lambda shop: chord([shop.add.s(1, 1), shop.fail.s(7)], shop.total.s()) | shop.add.s(1),
        ("ChordError", "ValueError(7)"),
    ),
    "failed header that is collected": (
        lambda shop: chord([shop.add.s(1, 1), shop.fail.s(7)], shop.count.s(), on_error="collect"),
        2,
    ),
    "replaced by a group": (lambda shop: chain(shop.spread.s(1), shop.total.s()), 5),
    "replaced in a header": (lambda shop: chord([shop.spread.s(1), shop.add.s(1, 1)], shop.same.s()), [[2, 3], 2]),
}


def declare(queue: AsyncQ) -> SimpleNamespace:
    told: asyncio.Queue[Any] = asyncio.Queue()

    @queue.task
    async def add(x: int, y: int) -> int:
        return x + y

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task
    async def same(value: Any) -> Any:
        return value

    @queue.task
    async def count(values: list[Any]) -> int:
        return len(values)

    @queue.task(throws=(ValueError,))
    async def fail(x: int) -> int:
        raise ValueError(x)

    @queue.task(throws=(ConfigurationError,))
    async def spread(ctx: Context, x: int) -> list[int]:
        raise ctx.replace(group(add.s(x, 1), add.s(x, 2)))

    @queue.task
    async def tell(value: Any) -> None:
        await told.put(value)

    @queue.task
    async def on_error(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        await told.put(exc)

    return SimpleNamespace(
        queue=queue, add=add, total=total, same=same, count=count, fail=fail, spread=spread, tell=tell,
        on_error=on_error, told=told,
    )  # fmt: skip


@pytest.mark.parametrize("backend", JOINING)
@pytest.mark.parametrize("broker", BROKERS)
async def test_each_shape_comes_to_the_same(shop: SimpleNamespace) -> None:
    found = await asyncio.gather(*(outcome_of(build(shop)) for build, _ in SHAPES.values()))
    assert dict(zip(SHAPES, found, strict=True)) == {name: expected for name, (_, expected) in SHAPES.items()}


async def outcome_of(signature: Signature[Any]) -> Any:
    result = await signature.send()
    try:
        return await result.get()
    except Exception as error:
        return type(error).__name__, str(error).rpartition(" ")[2]


@pytest.mark.parametrize(("broker", "backend"), OTHERS)
async def test_a_chord_that_nobody_can_join_is_refused(shop: SimpleNamespace, backend: str) -> None:
    """When it is sent, or where it is the next step of a worker's; what is no chord runs."""
    header = [shop.tell.si("sent"), shop.tell.si("sent")]
    chords = [chord(header, shop.total.s()), chain(shop.tell.si("sent"), group(header), shop.total.s())]
    for refused in chords:
        with pytest.raises(ConfigurationError, match=r"brings its parts together.*redis://, sqlite://") as caught:
            await refused.send()
        assert NAMES[backend] in str(caught.value)
    await chain(shop.add.s(1, 2), shop.add.s(3), shop.tell.s()).send()
    assert await shop.told.get() == 6
    await chain(shop.spread.s(1).link_error(shop.on_error.s()), shop.tell.s()).send()
    failure = await shop.told.get()
    assert isinstance(failure, ConfigurationError)
    assert f"brings its parts together, which {NAMES[backend]}" in str(failure)
    assert shop.told.empty()


# -- servers -----------------------------------------------------------------------------------------------------

_databases = count(1)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[RabbitServer]:
    with shared_node(run_folder(tmp_path_factory, worker_id)) as node:
        yield node


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def settings(request: pytest.FixtureRequest, broker: str, backend: str, tmp_path: Path) -> dict[str, Any]:
    """Of an app on this pair; servers are started for those who need them."""

    def server(kind: str) -> Any:
        return request.getfixturevalue(kind)

    given: dict[str, Any] = {"default_queue": f"q-{new_id()[:8]}"}
    match broker:
        case "redis":
            given["broker"] = server("redis").url(next(_databases))
        case "amqp":
            given["broker"] = server("rabbit").url()
        case "sqs":
            given["broker"] = server("moto").sqs_url
            given["broker_transport_options"] = {
                "region": "us-east-1",
                "wait_time_seconds": 0,  # moto goes on with a long poll whose client has left
                "polling_interval": 0.05,
            }
        case _:
            given["broker"] = _embedded(broker, tmp_path)
    match backend:
        case "redis":
            given["backend"] = server("redis").url(next(_databases))
        case "dynamodb":
            given["backend"] = f"dynamodb://testing:testing@127.0.0.1:{server('moto').port}/pairs-{new_id()[:8]}"
        case "s3":
            given["backend"] = f"s3://testing:testing@{_bucket(server('moto'))}/results"
            given["result_backend_transport_options"] = {
                "region": "us-east-1",
                "endpoint_url": server("moto").endpoint,
            }
        case "rpc":
            given["backend"] = "rpc://"
        case "none":
            given["backend"] = None
        case _:
            given["backend"] = _embedded(backend, tmp_path)
    return given


@pytest.fixture
async def shop(settings: dict[str, Any]) -> AsyncIterator[SimpleNamespace]:
    """The tasks of an app whose worker runs."""
    async with AsyncQ("shop", **settings) as queue:
        tasks = declare(queue)
        async with queue.worker(), asyncio.timeout(_BOUND):
            yield tasks


def _embedded(kind: str, folder: Path) -> str:
    return "memory://" if kind == "memory" else f"sqlite:///{folder}/shop.sqlite"


def _bucket(moto: MotoServer) -> str:
    name = f"pairs-{new_id()[:8]}"
    client: Any = boto3.client(
        "s3",
        endpoint_url=moto.endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name
