"""The checker finds what it is there for: in brokers and back ends that are broken on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from asyncq import AsyncQ
from asyncq.driver import DriverConfig, Publication, StoredResult
from asyncq.protocol import WireMessage
from asyncq_backends.memory import MemoryBackend
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.memory import MemoryBroker
from asyncq_brokers.redis import RedisBroker
from chaos.app import declare_tasks
from chaos.checker import Evidence, Report, examine
from chaos.ledger import Ledger, Record
from chaos.load import Load, Reader
from chaos.scale import SHORT
from chaos.trace import acknowledged_unstored
from servers import RedisServer
from waiting import until

_INSTANT = SHORT._replace(pause=(0.0, 0.0))

#: How many messages go well for each one that does not.
_SELDOM = 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


async def verdict(
    ledger: Ledger,
    *,
    sends: int,
    ends: int,
    broker: type[MemoryBroker] = MemoryBroker,
    backend: type[MemoryBackend] = MemoryBackend,
) -> Report:
    """Send so many tasks, wait for so many ends, compare."""
    app = AsyncQ("chaos", broker=broker, backend=backend)
    declare_tasks(app, ledger)
    async with app, app.worker() as worker:
        await Load(app, ledger, _INSTANT, random.Random(1)).send_burst(sends)
        await until(lambda: worker.stats.succeeded >= ends)
        reader = Reader(await app._clients.current().backend(), ledger)
        results = await reader.results(sorted(ledger.ids("TRY")))
    return examine(Evidence(records=ledger.entries(), results=results))


def every(number: int) -> Callable[[], bool]:
    """True once in so many calls."""
    calls = count(1)
    return lambda: next(calls) % number == 0


async def test_drivers_that_work_leave_nothing_to_complain_of(ledger: Ledger) -> None:
    report = await verdict(ledger, sends=500, ends=500)

    report.check(duplicates=0)
    assert (report.sent, report.recovered) == (500, set())
    assert str(report).startswith("500 sent: D 0 lost 0 wrong 0")


async def test_one_message_in_a_thousand_is_dropped(ledger: Ledger) -> None:
    is_dropped, dropped = every(_SELDOM), set[object]()

    class Forgetful(MemoryBroker):
        async def publish(self, publications: Sequence[Publication]) -> None:
            kept: list[Publication] = []
            for publication in publications:
                if is_dropped():
                    dropped.add(_message(publication).headers["id"])
                else:
                    kept.append(publication)
            await super().publish(kept)

    report = await verdict(ledger, sends=2000, ends=1998, broker=Forgetful)

    assert report.lost == dropped
    assert len(dropped) == 2
    with pytest.raises(AssertionError, match=r"lost: 2\n  .*\n    0\.\d+ TRY"):
        report.check(duplicates=0)


async def test_one_message_in_a_thousand_is_delivered_twice(ledger: Ledger) -> None:
    is_doubled, doubled = every(_SELDOM), set[object]()

    class Generous(MemoryBroker):
        async def publish(self, publications: Sequence[Publication]) -> None:
            again = [publication for publication in publications if is_doubled()]
            doubled.update(_message(publication).headers["id"] for publication in again)
            await super().publish([*publications, *again])

    report = await verdict(ledger, sends=1000, ends=1001, broker=Generous)

    assert report.duplicates.keys() == doubled
    report.check(duplicates=1)
    with pytest.raises(AssertionError, match="duplicates beyond 0: 1"):
        report.check(duplicates=0)


async def test_one_body_in_a_thousand_is_changed(ledger: Ledger) -> None:
    is_changed = every(_SELDOM)

    class Careless(MemoryBroker):
        async def publish(self, publications: Sequence[Publication]) -> None:
            for publication in publications:
                if is_changed():
                    message = _message(publication)
                    publication.message = structs.replace(message, body=message.body.replace(b'x"', b'y"'))
            await super().publish(publications)

    report = await verdict(ledger, sends=1000, ends=1000, broker=Careless)

    assert len(report.unexpected) == 1
    with pytest.raises(AssertionError, match="unexpected: 1"):
        report.check(duplicates=0)


async def test_one_result_in_a_thousand_is_replaced(ledger: Ledger) -> None:
    is_replaced, replaced = every(_SELDOM), set[str]()

    class Confused(MemoryBackend):
        async def store(self, results: Sequence[StoredResult]) -> list[bool]:
            for position, result in enumerate(results):
                if is_replaced():
                    replaced.add(result.task_id)
                    record = result.record.replace(b'"SUCCESS"', b'"FAILURE"')
                    results = [*results[:position], structs.replace(result, record=record), *results[position + 1 :]]
            return await super().store(results)

    report = await verdict(ledger, sends=1000, ends=1000, backend=Confused)

    assert report.wrong == replaced
    with pytest.raises(AssertionError, match="wrong result: 1"):
        report.check(duplicates=0)


async def test_an_acknowledgement_overtakes_the_result(ledger: Ledger, server: RedisServer) -> None:
    """One in a hundred; and none where nothing is wrong."""
    is_early, early = every(100), set[str]()
    later: list[asyncio.Task[Any]] = []

    class Hasty(RedisBackend):
        async def store(self, results: Sequence[StoredResult]) -> list[bool]:
            hasty = [result for result in results if is_early()]
            early.update(result.task_id for result in hasty)
            await super().store([result for result in results if result not in hasty])
            if hasty:
                later.append(asyncio.create_task(self._store_after_the_acknowledgement(hasty)))
            return [True] * len(results)

        async def _store_after_the_acknowledgement(self, results: Sequence[StoredResult]) -> None:
            await until(lambda: server.command("HLEN", "unacked") == b":0\r\n")
            await super().store(results)

    def broker(config: DriverConfig) -> RedisBroker:
        return RedisBroker(structs.replace(config, url=server.url()))

    def backend(config: DriverConfig) -> Hasty:
        return Hasty(structs.replace(config, url=server.url(1)))

    app = AsyncQ("chaos", broker=broker, backend=backend)
    declare_tasks(app, ledger)
    async with app, app.worker() as worker:
        await Load(app, ledger, _INSTANT, random.Random(1)).send_burst(300)
        await until(lambda: worker.stats.succeeded >= 300)
        await asyncio.gather(*later)

    assert set(acknowledged_unstored(server.folder)) == early
    assert len(early) == 3


# -- what takes time to happen -------------------------------------------------------------------------------


def record(kind: str, at: float, detail: str = "", *, task: str = "a", pid: int = 1, tag: str = "-") -> Record:
    return Record(kind, task, 0, tag, pid, 0, at, at, detail)


def test_a_result_that_changes_after_it_was_seen_is_wrong() -> None:
    records = [
        record("TRY", 0, "00"),
        record("ACK", 0),
        record("START", 1, "00", tag="1"),
        record("END", 2, "success one", tag="1"),
        record("STORED", 2.1, "SUCCESS one"),
        record("START", 3, "00", tag="2"),
        record("END", 4, "success two", tag="2"),
    ]

    assert examine(Evidence(records=records, results={"a": "SUCCESS one"})).wrong == set()
    assert examine(Evidence(records=records, results={"a": "SUCCESS two"})).wrong == {"a"}
    assert examine(Evidence(records=records, results={"a": "SUCCESS three"})).wrong == {"a"}
    assert examine(Evidence(records=records, results={})).wrong == {"a"}


def test_retries_are_no_duplicates() -> None:
    records = [record("TRY", 0, "00"), record("ACK", 0)]
    for attempt, outcome in enumerate(["retry", "retry", "success one"]):
        records += [record("START", 1 + attempt, "00"), record("END", 1.5 + attempt, outcome)]

    assert examine(Evidence(records=records, results={"a": "SUCCESS one"})).duplicates.total() == 0


def test_runs_at_the_same_time_overlap() -> None:
    first, second = record("START", 1, pid=1, tag="1"), record("START", 3, pid=2, tag="2")
    ends = [record("END", 4, "success", pid=2, tag="2"), record("END", 5, "success", pid=1, tag="1")]

    assert examine(Evidence(records=[first, second, *ends])).overlap == {"a"}
    assert examine(Evidence(records=[first, record("END", 2, pid=1, tag="1"), second, *ends])).overlap == set()
    # Killed in its midst: it never ended, and was gone when the second began.
    assert examine(Evidence(records=[first, second, ends[0]])).overlap == set()


def test_a_send_that_failed_and_ran_was_recovered() -> None:
    records = [record("TRY", 0, "00"), record("NACK", 1), record("START", 2, "00"), record("END", 3, "success one")]

    report = examine(Evidence(records=records, results={"a": "SUCCESS one"}))

    assert (report.recovered, report.lost, report.slowest_send) == ({"a"}, set(), 1.0)


def test_a_send_without_an_end_hangs() -> None:
    assert examine(Evidence(records=[record("TRY", 0, "00")])).hanging == {"a"}


def test_silence_is_a_time_without_ends_while_there_is_work_and_no_fault() -> None:
    sent = [record("TRY", 0, "00"), record("ACK", 0), record("TRY", 0, "00", task="b"), record("ACK", 0, task="b")]
    fault = [record("FAULT", 3, "on it"), record("FAULT", 9, "off it")]
    ends = [record("END", 2, "success"), record("END", 10.5, "success", task="b")]
    late = [record("TRY", 100, "00", task="c"), record("ACK", 100, task="c"), record("END", 101, "success", task="c")]

    assert examine(Evidence(records=[*sent, *ends])).silence == 8.5
    assert examine(Evidence(records=[*sent, *fault, *ends])).silence == 2
    assert examine(Evidence(records=[*sent, *fault, *ends, *late])).silence == 2


def test_a_fault_is_timed() -> None:
    ends = [record("END", second / 10, "success", task=str(second)) for second in range(100)]
    fault = [
        record("FAULT", 10, "on it"),
        record("LOG", 11.5, task="-"),
        record("FAULT", 20, "off it"),
    ]
    slow = [record("END", 21 + second / 2, "success", task=f"s{second}") for second in range(4)]
    quick = [record("END", 23 + second / 10, "success", task=f"q{second}") for second in range(20)]

    [times] = examine(Evidence(records=[*ends, *fault, *slow, *quick])).faults

    assert (times.what, times.lasted, times.detected, times.first) == ("it", 10, 1.5, 1)
    assert times.rate == pytest.approx(3.7, abs=0.3)


def _message(publication: Publication) -> WireMessage:
    assert isinstance(publication.message, WireMessage)
    return publication.message
