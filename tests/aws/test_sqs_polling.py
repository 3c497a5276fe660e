"""How the SQS broker takes messages: what strangers write, more queues than room, and who lets go of what."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq._clock import system_environment
from asyncq.driver import ConsumerOptions, Queue
from asyncq.errors import ConfigurationError
from asyncq_brokers.sqs.deliveries import Deliveries
from asyncq_brokers.sqs.queues import KnownQueue
from aws.kit import consuming, numbers, opened, publish, take, task
from aws.strict_sqs import StrictSqs
from waiting import until

# -- what strangers write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["inf", "-inf", "nan", "1e400", "soon", ""])
async def test_a_date_that_is_none_hides_nothing_and_stops_nobody(strict: StrictSqs, date: str) -> None:
    """Whoever may send can write this attribute; what he wrote is his, and the others' messages come with it."""
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1), task(2))
        odd, _ = strict.queues["q"].messages
        odd.attributes = {"asyncq.not_before": {"DataType": "String", "StringValue": date}}
        odd.received, odd.first_received = 1, 1.0  # how often it came is reckoned with the date
        assert numbers(await take(consumer, 2)) == [1, 2]


@given(
    body=st.text() | st.builds(lambda eta: json.dumps({"headers": {"eta": eta}}), st.text() | st.datetimes().map(str)),
    date=st.text() | st.floats().map(repr),
)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_message_it_is_a_delivery(body: str, date: str) -> None:
    message = {
        "Body": body,
        "ReceiptHandle": "m1#1",
        "Attributes": {"ApproximateReceiveCount": "3", "ApproximateFirstReceiveTimestamp": "1700000000000"},
        "MessageAttributes": {"asyncq.not_before": {"DataType": "String", "StringValue": date}},
    }
    queue = KnownQueue("q", "https://sqs/1/q", cast("Any", None), fifo=False)  # no server is asked
    held = Deliveries(system_environment(), 60).read(queue, message, asked_at=0.0, counted=0.0)
    assert 1 <= (held.delivery.count or 0) <= 3


# -- more queues than room -------------------------------------------------------------------------------------


async def test_what_came_beyond_the_room_is_kept_for_the_next_task(strict: StrictSqs) -> None:
    """To give it back after a second is to receive it again after each task."""
    async with opened(strict) as broker, consuming(broker, "a", "b") as consumer:
        await publish(broker, "a", task(1))
        await publish(broker, "b", task(2))
        await take(consumer, 1)
        await until(lambda: all(message.received for name in "ab" for message in strict.queues[name].messages))
        await asyncio.sleep(1.2)  # a task's time; nothing is to happen meanwhile
        await take(consumer, 1)
        assert [message.received for name in "ab" for message in strict.queues[name].messages] == [1, 1]
        assert not strict.requests["ChangeMessageVisibilityBatch"]


async def test_queues_that_have_something_are_asked_for_what_there_is_room_for(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "a", "b", "c") as consumer:
        for number, name in enumerate("abc"):
            await publish(broker, name, *(task(4 * number + n) for n in range(4)))
        taken = [await consumer.receive(1) for _ in range(3)]  # each was asked: it could be empty
        for count in range(4, 13):
            taken.append(await consumer.receive(1))
            assert strict.requests["ReceiveMessage"] == count
            assert {one.queue for (one,) in taken[-3:]} == {"a", "b", "c"}  # in turn
        assert numbers([one for (one,) in taken]) == list(range(12))
        await publish(broker, "b", task(12))
        assert numbers(await consumer.receive(1)) == [12]  # however many queues turn out to be empty


# -- what is let go of -----------------------------------------------------------------------------------------


async def test_what_can_not_be_given_back_is_forgotten_all_the_same(strict: StrictSqs) -> None:
    """Its lease gives it back; a consumer that remembered it would do so for ever."""
    async with opened(strict) as broker:
        await publish(broker, "q", task(1), task(2))
        async with consuming(broker, "q") as consumer:
            receiving = asyncio.create_task(consumer.receive(10))
            await asyncio.sleep(0)  # its poll is begun, and outlives it
            receiving.cancel()
            await until(lambda: strict.requests["ReceiveMessage"] == 1)
            strict.denied = {"ChangeMessageVisibilityBatch"}
            await consumer.close()
            deliveries: Any = consumer
            assert not deliveries._deliveries._held


async def test_what_comes_for_who_asks_no_more_goes_to_others(strict: StrictSqs) -> None:
    """A worker that drains has a poll under way, and no use for what it brings."""
    async with opened(strict) as broker, consuming(broker, "q") as leaving:
        receiving = asyncio.create_task(leaving.receive(10))
        await until(lambda: strict.requests["ReceiveMessage"] == 1)
        receiving.cancel()
        await asyncio.wait([receiving])
        await publish(broker, "q", task(1))
        await until(lambda: strict.queues["q"].messages[0].received == 1)
        async with consuming(broker, "q") as other, asyncio.timeout(10):  # its lease is a minute
            assert numbers(await other.receive(1)) == [1]


async def test_a_lease_that_sqs_does_not_know_is_refused_at_once(strict: StrictSqs) -> None:
    async with opened(strict, wait_time_seconds=20) as broker:
        broker.consume([Queue(name="q")], ConsumerOptions(node="n@h", lease=43_180))
        with pytest.raises(ConfigurationError, match="lease: SQS hides a message for 43,200 seconds at most"):
            broker.consume([Queue(name="q")], ConsumerOptions(node="n@h", lease=43_181))


# -- a queue that stays away -----------------------------------------------------------------------------------


async def test_a_queue_that_stays_away_holds_up_no_other(strict: StrictSqs) -> None:
    """It is told of, and then it rests: whoever is told each time waits each time, with every other queue."""
    async with opened(strict) as broker, consuming(broker, "good", "bad") as consumer:
        await broker.declare([Queue(name="good")])
        strict.denied = {"CreateQueue"}
        told = taken = 0
        while taken < 20:
            try:
                await consumer.receive(1)
                taken += 1
            except ConfigurationError:
                told += 1
            await publish(broker, "good", task(taken))
        assert told < 10
