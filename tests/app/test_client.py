"""One connection a loop, messages that share their way, and what a fault of one means for the others."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.kit import GatedBroker
from asyncq import AsyncQ, BrokerError, ConfigurationError, PublishError
from asyncq.driver import DriverConfig, Publication
from asyncq.errors import BrokerConnectionError, BrokerFull
from asyncq.protocol import WireMessage


class Bench:
    """An app on gated brokers, which a test can look into."""

    def __init__(self, **settings: Any) -> None:
        self.brokers: list[GatedBroker] = []
        self.queue = AsyncQ("shop", broker=self._make, **settings)

    def _make(self, config: DriverConfig) -> GatedBroker:
        broker = GatedBroker(config)
        self.brokers.append(broker)
        return broker

    def send(self, number: int) -> asyncio.Task[Any]:
        return asyncio.create_task(self.queue.send_task("shop.add", [number]))

    async def opened(self) -> GatedBroker:
        """The broker, open, with nothing in its books, and a closed gate."""
        await self.queue.send_task("shop.first")
        (broker,) = self.brokers
        broker.batches.clear()
        broker.called.clear()
        broker.gate.clear()
        return broker


async def started(*tasks: asyncio.Task[Any]) -> None:
    """Let tasks run up to their first wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def let_one_through(broker: GatedBroker) -> None:
    """Wait until the first batch is stored, and the second stands at the gate."""

    def close_the_gate(batch: Sequence[Publication]) -> None:
        broker.gate.clear()

    broker.refuse = close_the_gate
    broker.gate.set()
    while len(broker.batches) < 2:
        await asyncio.sleep(0)
    broker.refuse = lambda batch: None


async def test_a_hundred_first_sends_open_one_connection() -> None:
    bench = Bench()
    async with bench.queue:
        await asyncio.gather(*(bench.queue.send_task("shop.add", [n]) for n in range(100)))
        (broker,) = bench.brokers
        assert broker.opened == 1
        depth = await broker.depth("celery")
        assert depth.ready == 100
    assert broker.closed == 1


async def test_a_message_that_waited_for_another_gets_no_second_deadline() -> None:
    bench = Bench(network_timeout=0.2)
    async with bench.queue:
        broker = await bench.opened()
        begun = asyncio.get_running_loop().time()
        first, second, third = (bench.send(number) for number in range(3))
        await started(first, second, third)
        await let_one_through(broker)

        for waiting in (second, third):
            with pytest.raises(BrokerConnectionError, match="did not answer in time"):
                await waiting

        assert asyncio.get_running_loop().time() - begun < 2 * 0.2
        broker.gate.set()
        await first


async def test_what_does_not_go_with_the_first_batch_gets_no_second_deadline_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asyncq._client._MOST_AT_ONCE", 1)
    bench = Bench(network_timeout=0.2)
    async with bench.queue:
        broker = await bench.opened()
        first, second, third = (bench.send(number) for number in range(3))
        await started(first, second, third)
        await let_one_through(broker)

        with pytest.raises(BrokerConnectionError, match="did not answer in time"):
            await third

        broker.gate.set()
        await asyncio.wait([first, second])
        assert [len(batch) for batch in broker.batches] == [1, 1]
        assert isinstance(second.exception(), BrokerConnectionError)


async def test_a_message_whose_time_is_over_does_not_leave() -> None:
    bench = Bench(network_timeout=0.1)
    async with bench.queue:
        broker = await bench.opened()
        first, second = bench.send(1), bench.send(2)
        await started(first, second)
        await asyncio.sleep(0.15)
        broker.gate.set()

        with pytest.raises(BrokerConnectionError, match="did not answer in time"):
            await second
        await first
        assert [len(batch) for batch in broker.batches] == [1]


async def test_batches_and_single_messages_share_the_connection() -> None:
    bench = Bench()
    call = bench.queue.signature({"task": "shop.add"})
    async with bench.queue:
        await asyncio.gather(bench.queue.send_many([call]), call.send(), bench.queue.send_many([call, call]))
        (broker,) = bench.brokers
        assert (await broker.depth("celery")).ready == 4


async def test_a_lone_message_goes_at_once() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        broker.gate.set()
        await bench.queue.send_task("shop.add")
        assert [len(batch) for batch in broker.batches] == [1]


async def test_messages_gather_while_one_is_under_way() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        sends = [bench.send(n) for n in range(10)]
        await started(*sends)
        assert [len(batch) for batch in broker.batches] == [1]
        broker.gate.set()
        results = await asyncio.gather(*sends)
        assert [len(batch) for batch in broker.batches] == [1, 9]
        assert len({result.task_id for result in results}) == 10


async def test_a_batch_has_an_upper_size() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        sends = [bench.send(n) for n in range(1501)]
        await started(*sends)
        broker.gate.set()
        await asyncio.gather(*sends)
        assert [len(batch) for batch in broker.batches] == [1, 1000, 500]


async def test_each_sender_gets_the_error_of_its_own_message() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()

        def refuse_odd(batch: Sequence[Publication]) -> None:
            if len(batch) > 1:
                raise PublishError({index: BrokerError(f"no {index}") for index in range(len(batch)) if index % 2})

        broker.refuse = refuse_odd
        sends = [bench.send(n) for n in range(5)]
        await started(*sends)
        broker.gate.set()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
    failed = [str(outcome) for outcome in outcomes if isinstance(outcome, BrokerError)]
    assert failed == ["no 1", "no 3"]
    assert not isinstance(outcomes[1], BaseException)


async def test_a_lone_senders_refusal_is_its_reason() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        broker.gate.set()
        reason = BrokerFull("too large")

        def refuse(batch: Sequence[Publication]) -> None:
            raise PublishError({0: reason})

        broker.refuse = refuse
        with pytest.raises(BrokerFull, match="too large"):
            await bench.queue.send_task("shop.add")


async def test_an_outage_reaches_everybody_in_the_batch_and_the_next_send_works() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()

        def refuse(batch: Sequence[Publication]) -> None:
            raise BrokerConnectionError("gone")

        broker.refuse = refuse
        sends = [bench.send(n) for n in range(3)]
        await started(*sends)
        broker.gate.set()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BrokerConnectionError] * 3
        assert len({id(outcome) for outcome in outcomes}) == 3
        broker.refuse = lambda batch: None
        await bench.queue.send_task("shop.add")


async def test_a_sender_that_is_cancelled_hurts_nobody_else() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        leader, second, third = sends = [bench.send(n) for n in range(3)]
        await started(*sends)
        second.cancel()  # waits for the next flush: its message doesn't go
        await asyncio.wait([second])
        leader.cancel()  # under way: the broker may or may not have it
        await asyncio.wait([leader])
        broker.gate.set()
        await third
        assert [len(batch) for batch in broker.batches] == [1, 1]
        fourth = bench.send(4)
        await fourth
    assert second.cancelled()
    assert leader.cancelled()


async def test_a_sender_that_is_cancelled_during_the_flush_leaves_the_others_message() -> None:
    bench = Bench()
    async with bench.queue:
        broker = await bench.opened()
        leader = bench.send(0)
        await started(leader)
        others = [bench.send(n) for n in range(1, 4)]
        await started(*others)
        await let_one_through(broker)
        others[0].cancel()
        broker.gate.set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])


async def test_closing_sends_what_waits_first() -> None:
    bench = Bench()
    broker = await bench.opened()
    sends = [bench.send(n) for n in range(3)]
    await started(*sends)
    broker.gate.set()
    await sends[0]
    await bench.queue.aclose()
    await asyncio.gather(*sends)
    assert broker.closed == 1


async def test_closing_waits_for_what_is_under_way_and_opens_nothing_behind_it() -> None:
    bench = Bench()
    broker = await bench.opened()
    sends = [bench.send(n) for n in range(3)]
    batch = asyncio.create_task(bench.queue.send_many([bench.queue.signature({"task": "shop.add"})]))
    await started(*sends, batch)
    closing = asyncio.create_task(bench.queue.aclose())
    await started(closing)
    broker.gate.set()
    await asyncio.gather(*sends, batch, closing)
    assert [len(batch) for batch in broker.batches] == [1, 1, 2]
    assert (len(bench.brokers), broker.closed) == (1, 1)


async def test_closing_that_is_cancelled_while_the_first_is_under_way_opens_nothing_behind_it() -> None:
    bench = Bench()
    broker = await bench.opened()
    sends = [bench.send(n) for n in range(3)]
    await started(*sends)
    closing = asyncio.create_task(bench.queue.aclose())
    await started(closing)
    closing.cancel()
    await asyncio.wait([closing])
    broker.gate.set()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes[1:]] == ["the client was closed"] * 2
    assert (len(bench.brokers), broker.closed) == (1, 1)


async def test_a_client_that_was_closed_sends_nothing_and_opens_nothing() -> None:
    bench = Bench()
    await bench.opened()
    client = bench.queue._clients.current()
    await bench.queue.aclose()
    publication = Publication(
        message=WireMessage(body=b"", headers={}), queue="celery", exchange="", routing_key="celery"
    )
    for call in (client.publish(publication), client.publish_many([publication]), client.backend()):
        with pytest.raises(BrokerConnectionError, match="the client was closed"):
            await call
    assert len(bench.brokers) == 1


async def test_closing_that_is_cancelled_tells_the_senders() -> None:
    bench = Bench()
    broker = await bench.opened()
    sends = [bench.send(n) for n in range(3)]
    await started(*sends)
    await let_one_through(broker)
    closing = asyncio.create_task(bench.queue.aclose())
    await started(closing)
    closing.cancel()
    outcomes = await asyncio.gather(closing, *sends[1:], return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [str(outcome) for outcome in outcomes[1:]] == ["the client was closed while the message was under way"] * 2
    assert broker.closed == 1


async def test_an_app_can_be_used_again_after_it_was_closed() -> None:
    bench = Bench()
    async with bench.queue:
        await bench.queue.send_task("shop.add")
    async with bench.queue:
        await bench.queue.send_task("shop.add")
    assert [broker.closed for broker in bench.brokers] == [1, 1]


async def test_an_opening_that_fails_is_tried_again_by_the_next() -> None:
    attempts: list[int] = []

    def make(config: DriverConfig) -> GatedBroker:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConfigurationError("not today")
        return GatedBroker(config)

    queue = AsyncQ("shop", broker=make)
    async with queue:
        with pytest.raises(ConfigurationError, match="not today"):
            await queue.send_task("shop.add")
        await queue.send_task("shop.add")


# -- loops ---------------------------------------------------------------------------------------------------


def in_a_loop(function: Callable[[], Any]) -> None:
    asyncio.run(function())


def test_each_loop_has_a_client_of_its_own_and_dead_loops_are_forgotten() -> None:
    bench = Bench()
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def send() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await bench.queue.send_task("shop.add")

    for _ in range(3):
        in_a_loop(send)
    assert len(bench.brokers) == 3
    assert len(bench.queue._clients._by_loop) <= 1
    gc.collect()
    assert [loop() is None for loop in loops[:2]] == [True, True]


async def test_those_who_send_on_and_on_go_together_each_time() -> None:
    bench = Bench()

    async def send_on_and_on() -> None:
        for number in range(5):
            await bench.queue.send_task("shop.add", [number])

    async with bench.queue:
        broker = await bench.opened()
        broker.gate.set()
        await asyncio.gather(*(send_on_and_on() for _ in range(8)))

        sizes = list(map(len, broker.batches))
        assert sum(sizes) == 5 * 8
        # The first went ahead of the others, so that its sender is one message ahead to the end.
        assert len(sizes) <= 5 + 2, sizes
