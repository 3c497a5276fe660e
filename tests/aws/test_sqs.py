"""What the SQS broker says on the wire, and what it makes of AWS's ways to fail."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any

import pytest

from asyncq import AsyncQ, Context
from asyncq.driver import Dead, Queue
from asyncq.errors import BrokerConnectionError, ConfigurationError, EncodeError, PublishError
from asyncq.protocol import WireMessage
from aws.kit import acks, consuming, impatient, numbers, opened, publish, take, task
from aws.strict_sqs import StrictSqs


async def test_a_message_is_kombus_envelope_in_base64(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await publish(broker, "celery", task(7))

    (message,) = strict.queues["celery"].messages
    envelope = json.loads(b64decode(message.body))
    assert list(envelope) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert envelope["properties"]["delivery_info"] == {"exchange": "", "routing_key": "celery"}
    assert envelope["properties"]["body_encoding"] == "base64"
    assert strict.queues["celery"].attributes["VisibilityTimeout"] == "1800"


async def test_kombu_reads_what_we_send(strict: StrictSqs) -> None:
    from kombu.transport.SQS import Channel

    async with opened(strict) as broker, opened(strict, sqs_base64_encoding=False) as plain:
        await publish(broker, "celery", task(7))
        await publish(plain, "celery", task(8))
    channel: Any = Channel.__new__(Channel)
    decoded = [json.loads(channel._decode_python_message_body(m.body)) for m in strict.queues["celery"].messages]
    assert [envelope["headers"]["task"] for envelope in decoded] == ["tests.add", "tests.add"]


async def test_names_are_mapped_as_kombu_maps_them(strict: StrictSqs) -> None:
    async with opened(strict, queue_name_prefix="hoge-") as broker:
        await broker.declare([Queue(name=name) for name in ("celery", "my.queue:a/b_c", "jobs.fifo")])
    assert [name for name in strict.queues if "dead" not in name] == [
        "hoge-celery",
        "hoge-my-queue_a_b_c",
        "hoge-jobs.fifo",
    ]
    assert strict.queues["hoge-jobs.fifo"].attributes["FifoQueue"] == "true"


async def test_plain_and_base64_are_both_read(strict: StrictSqs) -> None:
    async with opened(strict, sqs_base64_encoding=False) as plain, opened(strict) as broker:
        await publish(plain, "q", task(1))
        await publish(broker, "q", task(2))
        assert strict.queues["q"].messages[0].body.startswith("{")
        async with consuming(broker, "q") as consumer:
            assert numbers(await take(consumer, 2)) == [1, 2]


# -- batches ---------------------------------------------------------------------------------------------------


async def test_ten_at_a_time(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", *map(task, range(100)))
        taken = await take(consumer, 100)
        assert await consumer.extend(taken) == []
        assert await consumer.settle(acks(taken)) == []

    assert numbers(taken) == list(range(100))
    assert strict.requests["SendMessageBatch"] == strict.requests["DeleteMessageBatch"] == 10
    assert strict.requests["ChangeMessageVisibilityBatch"] == 10
    assert strict.requests["ReceiveMessage"] <= 11  # the last one waits when the consumer is closed
    assert not strict.queues["q"].messages


async def test_a_batch_takes_no_more_bytes_than_sqs(strict: StrictSqs) -> None:
    large = [WireMessage(body=b"x" * 300_000, headers={"task": "t"}) for _ in range(4)]
    async with opened(strict) as broker:
        await publish(broker, "q", *large)
    assert strict.requests["SendMessageBatch"] == 4
    assert len(strict.queues["q"].messages) == 4


async def test_what_is_too_large_is_refused_before_the_call(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await broker.declare([Queue(name="q")])
        with pytest.raises(PublishError) as refused:
            await publish(broker, "q", WireMessage(body=b"x" * 600_000, headers={"task": "t"}))
    assert isinstance(refused.value.failures[0], EncodeError)
    assert "1,048,576" in str(refused.value)
    assert not strict.requests["SendMessageBatch"]


@pytest.mark.parametrize("action", ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
async def test_members_that_fail_are_sent_again_alone(strict: StrictSqs, action: str) -> None:
    strict.failing[action] = 3
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", *map(task, range(10)))
        taken = await take(consumer, 10)
        assert await consumer.extend(taken) == []
        assert await consumer.settle(acks(taken)) == []

    assert numbers(taken) == list(range(10))
    assert not strict.queues["q"].messages
    assert strict.members[action] == 13


async def test_members_that_fail_for_long_say_so_and_the_others_are_settled(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", *map(task, range(4)))
        taken = await take(consumer, 4)
        strict.failing["DeleteMessageBatch"] = 10_000
        with impatient(broker), pytest.raises(BrokerConnectionError):
            await consumer.settle(acks(taken))
        strict.failing.clear()
        assert await consumer.settle(acks(taken)) == []
    assert not strict.queues["q"].messages


@pytest.mark.parametrize("action", ["SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "CreateQueue"])
async def test_throttling_is_waited_for(strict: StrictSqs, action: str) -> None:
    strict.throttled[action] = 2
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        taken = await take(consumer, 1)
        assert await consumer.settle(acks(taken)) == []
    assert not strict.queues["q"].messages


# -- FIFO and fair queues --------------------------------------------------------------------------------------


async def test_a_fifo_queue_keeps_order_within_a_group(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q.fifo") as consumer:
        await publish(broker, "q.fifo", *(task(n, message_group_id=f"g{n % 2}") for n in range(4)))
        first = await consumer.receive(1)
        assert numbers(first) == [0]
        second = await consumer.receive(1)
        assert numbers(second) == [1]  # the other group; the first one is blocked
        assert await consumer.settle(acks(first)) == []
        assert numbers(await consumer.receive(1)) == [2]


async def test_groups_and_deduplication(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await publish(broker, "q.fifo", task(1), task(2))
        await publish(broker, "q.fifo", task(3, message_deduplication_id="once"))
        await publish(broker, "q.fifo", task(4, message_deduplication_id="once"))
        await publish(broker, "q.fifo", task(5, message_deduplication_id="once", retries=1))
        await publish(broker, "fair", task(6, message_group_id="tenant"), task(7))
    messages = strict.queues["q.fifo"].messages
    assert [message.group for message in messages] == ["default"] * 4  # the second "once" was dropped, the retry not
    assert [message.group for message in strict.queues["fair"].messages] == ["tenant", None]


# -- permissions and settings ----------------------------------------------------------------------------------


async def test_a_missing_queue_that_may_not_be_created_names_the_action(strict: StrictSqs) -> None:
    strict.denied = {"CreateQueue"}
    async with opened(strict) as broker:
        with pytest.raises(ConfigurationError, match=r"no queue 'q' .*sqs:CreateQueue is denied"):
            await broker.declare([Queue(name="q")])


async def test_policies_made_for_celery_suffice(strict: StrictSqs) -> None:
    """They allow ListQueues, and no GetQueueUrl."""
    async with opened(strict) as broker:
        await broker.declare([Queue(name="queue"), Queue(name="q")])
    strict.denied = {"GetQueueUrl", "CreateQueue"}
    async with opened(strict) as broker:
        await publish(broker, "q", task(1))
    assert len(strict.queues["q"].messages) == 1


async def test_a_denied_send_names_the_action(strict: StrictSqs) -> None:
    strict.denied = {"SendMessageBatch"}
    async with opened(strict) as broker:
        with pytest.raises(PublishError, match="denies sqs:SendMessage:"):  # IAM knows no batches
            await publish(broker, "q", task(1))


async def test_predefined_queues_are_neither_listed_nor_created(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await broker.declare([Queue(name="q")])
    strict.requests.clear()
    predefined = {"q": {"url": strict._url_of(strict.queues["q"]), "access_key_id": "a", "secret_access_key": "b"}}
    async with opened(strict, predefined_queues=predefined) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        await take(consumer, 1)
        with pytest.raises(ConfigurationError, match="'other' must be defined in 'predefined_queues'"):
            await broker.declare([Queue(name="other")])
    assert not strict.requests.keys() & {"GetQueueUrl", "ListQueues", "CreateQueue"}


async def test_backoff_policy_puts_a_rejected_task_off(strict: StrictSqs) -> None:
    async with opened(strict) as broker:
        await broker.declare([Queue(name="q")])
    url = strict._url_of(strict.queues["q"])
    predefined = {"q": {"url": url, "backoff_policy": {"1": "7", 2: 9}, "backoff_tasks": ["tests.add"]}}
    async with opened(strict, predefined_queues=predefined) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        for seconds in (7, 9):
            (delivery,) = await take(consumer, 1)
            letter = WireMessage(body=b"", headers={"task": "tests.add"})
            assert await consumer.settle([Dead(delivery, letter)]) == []
            (message,) = strict.queues["q"].messages
            assert seconds - 1 < message.visible - strict.now() <= seconds
            strict.advance(seconds)


async def test_a_deleted_queue_is_made_again(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        await consumer.settle(acks(await take(consumer, 1)))
        del strict.queues["q"]
        with pytest.raises(BrokerConnectionError, match="was deleted"):
            await consumer.receive(1)
        await publish(broker, "q", task(2))
        assert numbers(await take(consumer, 1)) == [2]


async def test_a_retry_stays_in_its_group_and_is_no_duplicate(strict: StrictSqs) -> None:
    queue = AsyncQ(
        "shop",
        broker=strict.url,
        default_queue="jobs.fifo",
        broker_transport_options={"wait_time_seconds": 1},
    )
    attempts: list[int] = []
    sent: list[tuple[str | None, str]] = []

    @queue.task(name="shop.stubborn", max_retries=2)
    async def stubborn(ctx: Context) -> None:
        attempts.append(ctx.retries)
        sent.extend((message.group, message.body) for message in strict.queues["jobs.fifo"].messages)
        if ctx.retries < 1:
            raise ctx.retry(countdown=0)

    async with queue:
        await stubborn.options(message_group_id="tenant", message_deduplication_id="once").send()
        await stubborn.options(message_group_id="tenant", message_deduplication_id="once").send()
        async with queue.worker() as worker:
            async with asyncio.timeout(15):
                while worker.stats.succeeded < 1:
                    await asyncio.sleep(0.02)

    assert attempts == [0, 1]
    assert {group for group, _ in sent} == {"tenant"}
    first, *_, last = [json.loads(b64decode(body))["properties"] for _, body in sent]
    assert first["MessageGroupId"] == last["MessageGroupId"] == "tenant"
    assert not strict.queues["jobs.fifo"].messages
