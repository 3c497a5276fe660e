"""What a worker does about callbacks, chains, groups and chords."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from asyncq import Context
from asyncq.canvas import Sending
from asyncq.driver import ChordOpening, ChordPart, DriverConfig, Publication
from asyncq.errors import BrokerError
from asyncq.protocol import DISPATCH_HEADER, TaskMessage, dumps, encode_part, encode_task
from asyncq_brokers.memory import MemoryBroker
from worker.canvas_bench import CanvasBench, Described, chain, chord, group, sig


@pytest.fixture
def bench() -> CanvasBench:
    bench = CanvasBench()

    async def add(x: int, y: int) -> int:
        return x + y

    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    async def echo(*args: Any) -> list[Any]:
        return list(args)

    async def fail(*_: Any) -> None:
        raise ValueError("boom", 1)

    for task in (add, total, echo):
        bench.task(task)
    bench.task(fail, throws=(ValueError,))
    return bench


async def test_a_chain_hands_each_result_on(bench: CanvasBench) -> None:
    last = await bench.start(chain(sig("add", 1, 2), sig("add", 3), sig("add", 4)))
    async with bench.worker():
        assert await bench.value(last) == 10


async def test_a_chord_gives_its_body_the_results_in_order(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("add", n, n) for n in range(20)], sig("echo")))
    async with bench.worker():
        assert await bench.value(body) == [[2 * n for n in range(20)]]


async def test_a_chord_in_a_chain(bench: CanvasBench) -> None:
    last = await bench.start(
        chain(sig("add", 1, 1), group(sig("add", 10), sig("add", 20)), sig("total"), sig("add", 100))
    )
    async with bench.worker():
        assert await bench.value(last) == 134


async def test_a_failed_header_task_fails_the_body(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("add", 1, 1), sig("fail"), sig("add", 2, 2)], sig("total")))
    async with bench.worker():
        kind, [text] = await bench.error(body)
    assert kind == "ChordError"
    assert text.endswith("raised ValueError('boom', 1)")


async def test_a_body_sees_the_headers_of_its_sender_and_none_of_asyncqs(bench: CanvasBench) -> None:
    async def seen(ctx: Context, _: list[int]) -> dict[str, Any]:
        return dict(ctx.headers)

    bench.task(seen)
    body = sig("seen", headers={"tenant": "acme", "asyncq-chord": {"on_error": "collect"}})
    async with bench.worker():
        assert await bench.value(await bench.start(chord([sig("add", 1, 1)], body))) == {"tenant": "acme"}


async def test_of_two_sendings_of_a_body_the_first_that_starts_runs_and_may_come_again(bench: CanvasBench) -> None:
    ran: list[str | None] = []

    async def body(ctx: Context) -> None:
        ran.append(ctx.message.dispatch)
        if len(ran) == 1:
            raise ctx.retry(countdown=0)

    bench.task(body)
    sent = TaskMessage(task="body", id="the-body")
    async with bench.worker(concurrency=1) as worker:
        for dispatch in ("first", "second"):
            await bench.publish(encode_task(sent, headers={DISPATCH_HEADER: dispatch}))
        assert (await bench.final("the-body")).status == "SUCCESS"
        await bench.until(lambda depth: depth.ready == depth.in_flight == 0)
        assert worker.stats.ignored == 1
    assert ran == ["first", "first"]


async def test_what_follows_inherits_the_priority_where_that_is_wanted(bench: CanvasBench) -> None:
    seen: list[int | None] = []

    async def look(ctx: Context, *_: Any) -> None:
        seen.append(ctx.message.properties.priority)

    bench.task(look)
    steps = chain(sig("look", priority=7), sig("look"), sig("look", priority=2))
    for inherit in (True, False):
        last = await bench.start(steps)
        async with bench.worker(inherit_parent_priority=inherit):
            await bench.value(last)
    assert seen == [7, 7, 2, 7, 0, 2]


async def test_several_callbacks_are_a_group_of_their_own(bench: CanvasBench) -> None:
    links = [sig("echo", "a").to_dict(), sig("echo", "b").to_dict()]
    first = await bench.start(sig("add", 1, 2, link=links))
    async with bench.worker():
        await bench.value(first)
        record = await bench.record(first)
        assert record is not None
        assert record.children is not None
        [[[_, _], members]] = record.children
        assert [await bench.value(member[0][0]) for member in members] == [[3, "a"], [3, "b"]]


async def test_a_chord_whose_worker_stopped_before_the_body_was_sent_is_ended_by_another(
    bench: CanvasBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncq.worker._chords.INTERVAL", 0.05)
    frozen = bench.planner().freeze(chord([sig("add", 1, 1)], sig("echo", task_id="body")))
    steps = list(bench.planner().plan(frozen))
    links = next(step.links for step in steps if isinstance(step, Sending))
    assert links.group_id is not None
    await bench.chords.open([ChordOpening(group_id=links.group_id, size=1, expires=60)])
    part = ChordPart(
        group_id=links.group_id,
        task_id="member",
        index=0,
        member=encode_part("member", "SUCCESS", 2),
        body=dumps({"body": links.chord}),
        expires=60,
    )
    assert await bench.chords.join([part], lease=0.01)  # somebody has the claim, and is never heard of again
    async with bench.worker():
        assert await bench.value("body") == [[2]]


async def test_a_callback_may_be_a_long_chain(bench: CanvasBench) -> None:
    steps = [sig("add", 1) for _ in range(100)]
    first = await bench.start(sig("add", 1, 2, link=[chain(*steps, sig("echo", task_id="last")).to_dict()]))
    async with bench.worker():
        assert await bench.value("last") == [103]
        assert await bench.value(first) == 3


class Noting(MemoryBroker):
    """Knows how many messages came in each call, and raises an error at one of choice."""

    def __init__(self, config: DriverConfig, raises: Mapping[int, Exception] | None = None) -> None:
        super().__init__(config)
        self.sizes: list[int] = []
        self._raises = raises or {}

    async def publish(self, publications: Sequence[Publication]) -> None:
        self.sizes.append(len(publications))
        if len(self.sizes) in self._raises:
            raise self._raises[len(self.sizes)]
        await super().publish(publications)


@pytest.fixture
def large(bench: CanvasBench, monkeypatch: pytest.MonkeyPatch) -> CanvasBench:
    """With a task that a header of 35 takes the place of; 10 messages are made at a time."""
    monkeypatch.setattr("asyncq.worker._continuation.MADE_AT_ONCE", 10)

    async def spread(ctx: Context, last: Any) -> None:
        header = [*(sig("add", n, n) for n in range(34)), sig("add", last, last)]
        raise ctx.replace(Described(chord(header, sig("echo"))))

    bench.task(spread)
    return bench


async def test_a_large_header_goes_out_while_it_is_made(large: CanvasBench) -> None:
    broker = Noting(large.config)
    async with large.worker(broker=broker):
        assert await large.value(await large.send("spread", 34)) == [[2 * n for n in range(35)]]
    assert max(broker.sizes) == 10


async def test_what_cannot_be_sent_at_the_end_of_a_large_header_fails_its_task(large: CanvasBench) -> None:
    async def spread_oddly(ctx: Context) -> None:
        raise ctx.replace(Described(chord([*(sig("add", n, n) for n in range(34)), sig("add", object())], sig("echo"))))

    large.task(spread_oddly)
    async with large.worker():
        kind, _ = await large.error(await large.send("spread_oddly"))
    assert kind == "EncodeError"


async def test_a_header_that_the_broker_refuses_halfway_fails_its_task(large: CanvasBench) -> None:
    broker = Noting(large.config, {3: BrokerError("no room for these")})
    async with large.worker(broker=broker):
        assert await large.error(await large.send("spread", 34)) == ("BrokerError", ["no room for these"])
    assert broker.sizes == [10, 10, 10]


async def test_a_fault_of_the_broker_halfway_through_two_large_headers_leaves_no_hole(large: CanvasBench) -> None:
    both = asyncio.Barrier(2)

    async def spread_together(ctx: Context) -> None:
        await both.wait()
        raise ctx.replace(Described(chord([sig("add", n, n) for n in range(35)], sig("echo"))))

    large.task(spread_together)
    first, second = [await large.send("spread_together") for _ in range(2)]
    broker = Noting(large.config, {3: RuntimeError("a fault")})
    async with large.worker(broker=broker):
        for each in (first, second):
            assert await large.value(each) == [[2 * n for n in range(35)]]
    assert len(broker.sizes) > 3


async def test_a_header_grows_by_a_large_group(large: CanvasBench) -> None:
    async def grow(ctx: Context) -> int:
        await ctx.add_to_chord(Described(group(*(sig("add", n, n) for n in range(35)))))
        return 1

    large.task(grow)
    body = await large.start(chord([sig("grow")], sig("total")))
    async with large.worker():
        assert await large.value(body) == 1 + 35 * 34
