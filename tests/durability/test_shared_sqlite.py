"""One SQLite file between processes: each task runs once, and who waits is woken."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from asyncq import AsyncQ
from chaos.ledger import Ledger
from durability.kit import MakeWorker, ids, is_settled, send, values
from waiting import until


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.sqlite"


@pytest.mark.slow
async def test_two_workers_share_a_backlog_exactly_once(
    client: AsyncQ, ledger: Ledger, make_worker: MakeWorker
) -> None:
    results = await send(client, range(2000), pause=0.0)
    async with make_worker(name="one", concurrency=5) as one, make_worker(name="two", concurrency=5) as two:
        more = await send(client, range(2000, 3000), pause=0.0)
        assert await values(results + more) == list(range(3000))
        assert set(ledger.runs("START").values()) == {1}
        assert ledger.runs("END").keys() == ids(results + more)
        assert ledger.writers("END").keys() == {one.pid, two.pid}
        await until(lambda: is_settled(client))
        assert (one.stop(), two.stop()) == (0, 0)


async def test_an_idle_worker_is_woken_by_another_process(client: AsyncQ, make_worker: MakeWorker) -> None:
    async with make_worker():
        delays: list[float] = []
        for _ in range(20):
            sent = time.time()
            result = await client.send_task("durability.clock")
            delays.append(await result.get(10) - sent)
    # The bounds of a busy machine. A worker that only looked now and then would do so once a second.
    assert min(delays) < 0.05
    assert statistics.median(delays) < 0.3
