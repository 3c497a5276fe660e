"""What becomes of a claim when its message does not go out, or nobody knows whether it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from app.kit import GatedBroker
from asyncq import AsyncQ, BrokerError, ConfigurationError, DuplicateTaskError, PublishError, Unique
from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, Fact, Publication
from asyncq.errors import BrokerConnectionError, BrokerFull
from asyncq.protocol import TaskMessage, decode_task
from asyncq_backends.memory import MemoryBackend
from clocks import SetClock

MINUTE, HOUR = 60.0, 3600.0


class Shop:
    """An app with a gated broker and a clock that a test moves."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.queue = AsyncQ("shop", broker=self._make_broker, backend=self._make_backend)
        self.broker: GatedBroker
        self.puts: list[list[Fact]] = []

    def _make_broker(self, config: DriverConfig) -> GatedBroker:
        self.broker = GatedBroker(config)
        return self.broker

    def _make_backend(self, config: DriverConfig) -> MemoryBackend:
        backend = MemoryBackend(config)
        put = backend.coordination.put

        async def noted(facts: Sequence[Fact], **conditions: bool) -> list[bool]:
            self.puts.append(list(facts))
            return await put(facts, **conditions)

        backend.coordination.put = noted  # the store is real: it is only watched
        return backend

    def refuse(self, error: Exception | None) -> None:
        def refuse(batch: Sequence[Publication]) -> None:
            if error is not None:
                raise error

        self.broker.refuse = refuse


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    clock = SetClock()
    environment = msgspec.structs.replace(system_environment(), clock=clock)
    monkeypatch.setattr("asyncq._app.system_environment", lambda: environment)
    shop = Shop(clock)
    async with shop.queue:
        await shop.queue.send_task("shop.first")  # opens the broker
        shop.broker.batches.clear()
        shop.broker.called.clear()
        yield shop


async def until_under_way(shop: Shop) -> None:
    await asyncio.wait_for(shop.broker.called.wait(), 5)


async def settled() -> None:
    """Let tasks run up to where they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_unknown_fate_keeps_others_away_for_a_minute_and_not_for_a_day(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only(x: int) -> None: ...

    shop.refuse(BrokerConnectionError("reset"))
    with pytest.raises(BrokerConnectionError):
        await only.send(1)
    shop.refuse(None)
    assert (await only.send(1)).duplicate  # it may have gone out
    shop.clock.now += 1.5 * MINUTE
    assert not (await only.send(1)).duplicate


@pytest.mark.parametrize("scope", ["queued", "running", 2 * HOUR])
async def test_what_has_gone_out_keeps_others_away_for_its_whole_time(shop: Shop, scope: Any) -> None:
    @shop.queue.task(unique=Unique(scope=scope))
    async def only() -> None: ...

    shop.broker.gate.clear()
    sending = asyncio.create_task(only.send())
    await until_under_way(shop)
    shop.clock.now += 20  # a slow broker: a window is counted from the send all the same
    shop.broker.gate.set()
    await sending
    shop.clock.now += 2 * HOUR - 21
    assert (await only.send()).duplicate
    shop.clock.now += 1
    assert (await only.send()).duplicate is (scope != 2 * HOUR)


async def test_a_claim_that_a_worker_has_given_back_does_not_come_back(shop: Shop) -> None:
    """The task may have ended before its sender hears that the message is there."""

    @shop.queue.task(unique=True)
    async def only() -> None: ...

    client = shop.queue._clients.current()
    coordination = await client.coordination()
    publish = type(shop.broker).publish

    async def publish_and_run(publications: Sequence[Publication]) -> None:
        await publish(shop.broker, publications)
        keys = [key for key, _ in await coordination.scan("unique.")]
        await coordination.delete(keys)

    shop.broker.publish = publish_and_run  # a worker that is quick
    await only.send()
    assert await coordination.scan("unique.") == []


@pytest.mark.parametrize("error", [BrokerFull("no room"), PublishError({0: BrokerError("too large")})])
async def test_what_was_refused_gives_its_claim_back_at_once(shop: Shop, error: Exception) -> None:
    @shop.queue.task(unique=True)
    async def only() -> None: ...

    shop.refuse(error)
    with pytest.raises(BrokerError):
        await only.send()
    with pytest.raises(BrokerError):
        await shop.queue.send_many([only.s()])
    shop.refuse(None)
    assert not (await only.send()).duplicate


async def test_a_send_that_is_cancelled_before_it_has_left_gives_its_claim_back(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only() -> None: ...

    shop.broker.gate.clear()
    leader = asyncio.create_task(shop.queue.send_task("shop.leader"))
    await until_under_way(shop)
    waits = asyncio.create_task(only.send())
    await settled()
    waits.cancel()
    await asyncio.wait([waits])
    assert waits.cancelled()
    shop.broker.gate.set()
    await leader
    assert not (await only.send()).duplicate


async def test_a_send_that_is_cancelled_under_way_keeps_its_claim_for_a_minute(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only() -> None: ...

    shop.broker.gate.clear()
    sending = asyncio.create_task(only.send())
    await until_under_way(shop)
    sending.cancel()
    await asyncio.wait([sending])
    shop.broker.gate.set()
    assert (await only.send()).duplicate
    shop.clock.now += 1.5 * MINUTE
    assert not (await only.send()).duplicate


async def test_an_idempotency_key_is_kept_for_its_day_whatever_became_of_the_message(shop: Shop) -> None:
    @shop.queue.task
    async def pay() -> None: ...

    call = pay.options(idempotency_key="order-17")
    shop.refuse(BrokerConnectionError("reset"))
    with pytest.raises(BrokerConnectionError):
        await call.send()
    shop.refuse(None)
    shop.clock.now += 23 * HOUR
    assert (await call.send()).duplicate
    shop.clock.now += HOUR
    assert not (await call.send()).duplicate


async def test_a_unique_task_takes_no_idempotency_key(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only() -> None: ...

    with pytest.raises(ConfigurationError, match=r"only is unique and takes no idempotency_key"):
        await only.options(idempotency_key="k").send()


# -- batches -------------------------------------------------------------------------------------------------


def numbers(batch: Sequence[Publication]) -> list[Any]:
    messages: list[TaskMessage] = [decode_task(each.message) for each in batch]
    return [message.args[0] for message in messages]


async def test_a_batch_costs_one_look_at_the_claims_and_one_publish(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only(x: int) -> None: ...

    @shop.queue.task
    async def plain(x: int) -> None: ...

    first = await only.send(2)
    shop.broker.batches.clear()
    shop.puts.clear()
    results = await shop.queue.send_many([only.s(1), plain.s(7), only.s(2), only.s(3), only.s(1)])
    assert [result.duplicate for result in results] == [False, False, True, False, True]
    assert (results[2].id, results[4].id) == (first.id, results[0].id)
    assert [numbers(batch) for batch in shop.broker.batches] == [[1, 7, 3]]
    assert [len(facts) for facts in shop.puts] == [4, 2]  # reserved, and kept


async def test_a_batch_of_duplicates_alone_publishes_nothing(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only() -> None: ...

    await only.send()
    shop.broker.batches.clear()
    assert [result.duplicate for result in await shop.queue.send_many([only.s(), only.s()])] == [True, True]
    assert shop.broker.batches == []


async def test_each_of_a_batch_has_an_outcome_of_its_own(shop: Shop) -> None:
    @shop.queue.task(unique=Unique(on_conflict="raise"))
    async def strict(x: int) -> None: ...

    @shop.queue.task(unique=True)
    async def only(x: int) -> None: ...

    first = await strict.send(1)
    shop.refuse(PublishError({1: BrokerError("too large")}))
    with pytest.raises(PublishError) as caught:
        await shop.queue.send_many([only.s(1), strict.s(1), only.s(2), only.s(2), strict.s(3)])
    failures = caught.value.failures
    assert sorted(failures) == [1, 2, 3]  # the second `only(2)` was to get the handle of the first
    assert isinstance(failures[1], DuplicateTaskError)
    assert failures[1].task_id == first.id
    assert str(failures[2]) == str(failures[3]) == "too large"
    shop.refuse(None)
    again = await shop.queue.send_many([only.s(1), only.s(2)])
    assert [result.duplicate for result in again] == [True, False]


async def test_an_unknown_fate_of_a_batch_keeps_its_claims_for_a_minute(shop: Shop) -> None:
    @shop.queue.task(unique=True)
    async def only(x: int) -> None: ...

    shop.refuse(BrokerConnectionError("reset"))
    with pytest.raises(BrokerConnectionError):
        await shop.queue.send_many([only.s(1), only.s(2)])
    shop.refuse(None)
    assert [result.duplicate for result in await shop.queue.send_many([only.s(1), only.s(2)])] == [True, True]
    shop.clock.now += 1.5 * MINUTE
    assert [result.duplicate for result in await shop.queue.send_many([only.s(1), only.s(2)])] == [False, False]
