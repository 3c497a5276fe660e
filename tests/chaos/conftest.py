"""Servers for the rows, and the two sizes that each of them has."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from asyncq import AsyncQ
from chaos.checker import Report
from chaos.places import Kind, Places
from chaos.proxy import Proxy
from chaos.scale import LONG, SHORT, Scale
from chaos.trace import AOF
from chaos.trial import Figures, Trial
from chaos.vhost import Vhost
from rabbit_node import run_folder, shared_node
from servers import RabbitServer, RedisServer


@pytest.fixture(
    params=[
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(240)),
        pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ]
)
def scale(request: pytest.FixtureRequest) -> Scale:
    return request.param


@pytest.fixture
def kind() -> Kind:
    """What has the messages; `chaos.places.on` says otherwise."""
    return "redis"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may do anything to. Its log stays with the ledger."""
    with RedisServer(**AOF) as server:
        yield server
        shutil.copy(server.folder / "log", tmp_path / "redis.log")


@pytest.fixture(scope="session")
def shared_rabbit(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Vhost]:
    """A virtual host of the run's RabbitMQ, which no test stops, fills or freezes."""
    with shared_node(run_folder(tmp_path_factory, worker_id)) as node:
        name = f"chaos-{worker_id}"
        node.add_vhost(name)
        yield Vhost(node, name)


@pytest.fixture(scope="session")
def own_node() -> Iterator[RabbitServer]:
    with RabbitServer() as node:
        yield node


@pytest.fixture
def own_rabbit(own_node: RabbitServer) -> Iterator[Vhost]:
    """All of a RabbitMQ that the test may do anything to. The next one finds it running, whatever became of this."""
    yield Vhost(own_node, "/")
    if not own_node.running:
        own_node.start()


@pytest.fixture
def vhost(kind: Kind, request: pytest.FixtureRequest) -> Vhost | None:
    """Where the messages are when they are on RabbitMQ."""
    fixtures: dict[Kind, str] = {"rabbit": "shared_rabbit", "own-rabbit": "own_rabbit"}
    return request.getfixturevalue(fixtures[kind]) if kind in fixtures else None


@pytest.fixture
def broker_server(vhost: Vhost | None, request: pytest.FixtureRequest) -> RedisServer | RabbitServer:
    """What has the messages. Only with `own-rabbit` may it be harmed."""
    return request.getfixturevalue("server") if vhost is None else vhost.server


@pytest.fixture
async def places(kind: Kind, vhost: Vhost | None, tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.sqlite"
        return Places(broker=url, backend=url)
    redis: RedisServer = request.getfixturevalue("server")
    if vhost is None:
        return Places(broker=redis.url(), backend=redis.url(), trace=redis.folder)
    url = vhost.server.url(vhost.name)
    await _clear(url)
    return Places(broker=url, backend=redis.url(), vhost=vhost)


async def _clear(url: str) -> None:
    """Remove what a row has left behind that failed."""
    broker = AsyncQ("chaos", broker=url).make_broker()
    await broker.open()
    try:
        for queue in ("celery", "celery.dead"):
            await broker.purge(queue)
    finally:
        await broker.close()


@pytest.fixture
async def proxy(broker_server: RedisServer | RabbitServer) -> AsyncIterator[Proxy]:
    """Stands before what has the messages, and on Redis the results."""
    async with Proxy(broker_server.port) as proxy:
        yield proxy


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Tells what was measured: printed at the end of `make soak`, and when a row fails."""

    def figures(report: Report, trial: Trial, **more: float) -> None:
        growth = trial.growth()
        grown = f"grown: {growth.tasks} tasks {growth.descriptors} descriptors {growth.resident / 2**20:.1f} MiB"
        told = "; ".join([str(report), grown, *(f"{name} {value:.2f}" for name, value in more.items())])
        record_property("figures", told)
        print(told)

    return figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of a soak, one line a row."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            told = dict(report.user_properties).get("figures")
            if told is not None and "soak" in report.keywords:
                terminalreporter.write_line(f"{report.nodeid.partition('::')[2]}: {told}")
