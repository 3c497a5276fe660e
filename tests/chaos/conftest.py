"""Servers for the rows, and the two sizes that each of them has."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from chaos.checker import Report
from chaos.proxy import Proxy
from chaos.scale import LONG, SHORT, Scale
from chaos.trace import AOF
from chaos.trial import Figures, Places, Trial
from servers import RedisServer


@pytest.fixture(
    params=[
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(240)),
        pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ]
)
def scale(request: pytest.FixtureRequest) -> Scale:
    return request.param


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may do anything to. Its log stays with the ledger."""
    with RedisServer(**AOF) as server:
        yield server
        shutil.copy(server.folder / "log", tmp_path / "redis.log")


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def places(server: RedisServer) -> Places:
    return Places(broker=server.url(), backend=server.url(), trace=server.folder)


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


@pytest.fixture(params=["redis", "sqlite"])
def any_places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """On each kind of store where leases end and processes die alike."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.sqlite"
        return Places(broker=url, backend=url)
    return request.getfixturevalue("places")
