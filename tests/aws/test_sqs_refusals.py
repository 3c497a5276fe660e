"""What AWS denies or takes away while a worker runs: told by its name, and the end of no worker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asyncq import AsyncQ
from asyncq.driver import Ack, Consumer, Dead, Delivery, Park, Publication, Queue
from asyncq.errors import BrokerConnectionError, BrokerError, PublishError
from aws.kit import consuming, opened, publish, take, task
from aws.strict_sqs import StrictSqs
from waiting import until

# -- denied ----------------------------------------------------------------------------------------------------


async def settle_dead(consumer: Consumer, delivery: Delivery) -> None:
    await consumer.settle([Dead(delivery, task())])


async def settle_done(consumer: Consumer, delivery: Delivery) -> None:
    await consumer.settle([Ack(delivery)])


async def settle_parked(consumer: Consumer, delivery: Delivery) -> None:
    await consumer.settle([Park(delivery, until=0.0)])


async def extend(consumer: Consumer, delivery: Delivery) -> None:
    await consumer.extend([delivery])


@pytest.mark.parametrize(
    ("call", "denied", "action"),
    [
        (settle_done, "DeleteMessageBatch", "sqs:DeleteMessage"),
        (settle_parked, "ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
        (extend, "ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
        (settle_dead, "CreateQueue", "sqs:CreateQueue"),
        (settle_dead, "SendMessageBatch", "sqs:SendMessage"),
    ],
)
async def test_what_is_denied_at_work_is_a_refusal_that_names_iams_action(
    strict: StrictSqs, call: Any, denied: str, action: str
) -> None:
    """Whoever works catches BrokerError, and goes on; ConfigurationError is for those who start."""
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        (delivery,) = await take(consumer, 1)
        strict.denied = {denied}
        with pytest.raises(BrokerError, match=rf"{action}\b[^B]"):
            await call(consumer, delivery)
        strict.denied = set()
        await call(consumer, delivery)


async def test_a_worker_outlives_what_is_denied_to_it(strict: StrictSqs) -> None:
    queue = AsyncQ("shop", broker=strict.url, broker_transport_options={"wait_time_seconds": 1})
    ran: list[int] = []

    @queue.task(name="shop.note")
    async def note(number: int) -> None:
        ran.append(number)

    async with queue:
        await note.send(1)
        strict.denied = {"CreateQueue", "DeleteMessageBatch"}
        async with queue.worker() as worker:
            await until(lambda: ran == [1])
            async with opened(strict) as other:
                await other.publish([Publication(message=b"garbage", queue="celery")])
            await until(lambda: worker.stats.received == 2)
            await note.send(2)
            await until(lambda: ran == [1, 2])
            strict.denied = set()


async def test_a_worker_that_starts_is_told_that_dead_letters_have_no_place(
    strict: StrictSqs, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(strict) as broker:
        await publish(broker, "q", task(1))
        strict.denied = {"CreateQueue"}
        with caplog.at_level(logging.WARNING):
            await broker.declare([Queue(name="q")])
    assert "Dead letters of q have no place" in caplog.text
    assert "sqs:CreateQueue is denied" in caplog.text


# -- deleted ---------------------------------------------------------------------------------------------------


async def test_a_producer_finds_a_queue_again_that_was_deleted(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await publish(broker, "q", task(1))
        del strict.queues["q"]
        await publish(broker, "q", task(2))
    assert len(strict.queues["q"].messages) == 1


async def test_a_producer_that_may_make_no_queue_is_told_when_its_own_was_deleted(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await publish(broker, "q", task(1))
        del strict.queues["q"]
        strict.denied = {"CreateQueue"}
        with pytest.raises(PublishError, match="no queue 'q'"):
            await publish(broker, "q", task(2))


async def test_dead_letters_find_their_queue_again(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await broker.declare([Queue(name="q")])
        await publish(broker, "q", task(1))
        del strict.queues["q-dead"]
        (delivery,) = await take(consumer, 1)
        assert await consumer.settle([Dead(delivery, task(1))]) == []
    assert len(strict.queues["q-dead"].messages) == 1


async def test_what_was_deleted_with_its_queue_is_nobodys_any_more(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1), task(2))
        first, second = await take(consumer, 2)
        del strict.queues["q"]
        assert await consumer.extend([first]) == [first]
        assert await consumer.settle([Ack(second)]) == [second]


# -- failing and closed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queue", "status"), [("q", 503), ("q.fifo", 503), ("q.fifo", 500)])
async def test_a_send_that_can_be_repeated_is(strict: StrictSqs, queue: str, status: int) -> None:
    """An unavailable service has done nothing, and a FIFO queue knows what it has had already."""
    strict.broken["SendMessageBatch"] = [status]
    async with opened(strict) as broker:
        await publish(broker, queue, task(1))
    assert len(strict.queues[queue].messages) == 1


async def test_a_send_whose_fate_is_unknown_is_not_repeated(strict: StrictSqs) -> None:
    strict.broken["SendMessageBatch"] = [500]
    async with opened(strict) as broker:
        with pytest.raises(BrokerConnectionError, match="does not serve"):
            await publish(broker, "q", task(1))
    assert strict.requests["SendMessageBatch"] == 1


async def test_a_refused_connection_is_tried_again_a_few_times(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await strict.stop()
        with pytest.raises(BrokerConnectionError):
            await publish(broker, "q", task(1))
        assert broker.requests == 4


async def test_who_sends_while_the_broker_is_closed_was_cancelled_by_nobody(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await broker.declare([Queue(name="q")])
        async with strict.frozen():
            sending = asyncio.create_task(publish(broker, "q", task(1)))
            await until(lambda: strict.waiting == 1)
            await broker.close()
            with pytest.raises(BrokerConnectionError, match="closed"):
                await sending
