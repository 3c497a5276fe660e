"""What the SQS broker holds: its leases, its dates, and the dead letters that it writes."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncq._operating import replay
from asyncq.driver import Ack, Dead, GiveBack, Park, Publication, Queue, Requeue
from asyncq.errors import BrokerConnectionError
from asyncq.protocol import WireMessage, dead_letter, decode_task
from aws.kit import acks, consuming, impatient, numbers, opened, publish, take, task
from aws.strict_sqs import StrictSqs

# -- leases ----------------------------------------------------------------------------------------------------


async def test_what_is_delivered_twice_at_once_is_settled_by_its_newer_holder(strict: StrictSqs) -> None:
    """The stale handle settles nothing, and says so; the newer one does."""
    strict.double_every = 1
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        (first,) = await take(consumer, 1)
        (second,) = await take(consumer, 1)
        assert second.redelivered
        assert await consumer.extend([first]) == [first]
        assert await consumer.settle([Ack(first)]) == [first]
        assert await consumer.settle([Ack(second)]) == []
    assert not strict.queues["q"].messages


async def test_nothing_is_polled_while_nobody_asks(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", *map(task, range(3)))
        taken = await take(consumer, 3)
        before = strict.requests["ReceiveMessage"]
        await publish(broker, "q", task(4))
        assert await consumer.extend(taken) == []
        assert strict.requests["ReceiveMessage"] == before


async def test_what_nobody_asks_for_goes_back(strict: StrictSqs) -> None:
    """A poll was under way when its worker became full: others shall have what it brings."""
    async with opened(strict) as broker, consuming(broker, "q") as full, consuming(broker, "q") as other:
        await publish(broker, "q", *map(task, range(5)))
        held = await full.receive(5)
        assert len(held) == 5
        await publish(broker, "q", *map(task, range(5, 8)))
        (one,) = await full.receive(1)  # MaxNumberOfMessages is what was asked for
        assert numbers(await take(other, 2) + [one]) == [5, 6, 7]


async def test_a_queue_that_fails_takes_nothing_of_the_others_with_it(strict: StrictSqs) -> None:
    """What one queue has brought is handed out before anybody is told that another one failed."""
    async with opened(strict) as broker, consuming(broker, "a", "b") as consumer:
        await broker.declare([Queue(name="a"), Queue(name="b")])
        await publish(broker, "a", task(1))
        (message,) = strict.queues["a"].messages
        del strict.queues["b"]
        strict.thawed.clear()
        receiving = asyncio.create_task(consumer.receive(10))
        while strict.waiting < 2:  # both polls are there, and end together
            await asyncio.sleep(0.01)
        strict.thawed.set()
        assert numbers(await receiving) == [1]
        assert message.received == 1
        with pytest.raises(BrokerConnectionError, match="'b' was deleted"):
            await consumer.receive(10)


async def test_a_lease_ends_after_twelve_hours(strict: StrictSqs) -> None:
    """As SQS has it: who still runs the task then is told that it is somebody else's."""
    clock = Jumping()
    async with opened(strict) as broker, consuming(broker, "q", lease=60) as consumer:
        deliveries: Any = consumer
        deliveries._deliveries._clock = clock
        await publish(broker, "q", task(1))
        taken = await take(consumer, 1)
        for _ in range(4):
            assert await consumer.extend(taken) == []
        held = deliveries._deliveries._held[taken[0].tag]
        held.taken_at -= 43_200 - 40
        assert await consumer.extend(taken) == []  # for the half minute that is left
        assert held.ends < clock.monotonic() + 31
        held.taken_at -= 60
        assert await consumer.extend(taken) == taken
        assert await consumer.settle(acks(taken)) == taken


class Jumping:
    """The machine's clock, under a name that tests can put elsewhere."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


async def test_given_back_is_there_at_once(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer, consuming(broker, "q") as other:
        await publish(broker, "q", *map(task, range(20)))
        taken = await take(consumer, 20)
        assert await consumer.settle([GiveBack(delivery) for delivery in taken]) == []
        assert strict.requests["ChangeMessageVisibilityBatch"] == 2
        assert numbers(await take(other, 20)) == list(range(20))


async def test_what_a_dead_worker_held_goes_back_by_its_handles(strict: StrictSqs) -> None:
    """SQS knows no nodes: the supervisor knows the tags of what ran, from the flight table."""
    async with opened(strict) as broker, consuming(broker, "q") as dead, consuming(broker, "q") as heir:
        await publish(broker, "q", *map(task, range(3)))
        first, second, third = await take(dead, 3)
        assert await dead.settle(acks([third])) == []
        held = {delivery.tag: "q" for delivery in (first, second, third)}
        assert await broker.release_tags(held, ended={second.tag}) == 1
        (again,) = await take(heir, 1)
        assert numbers([again]) == numbers([first])
        assert again.redelivered
        assert len(strict.queues["q"].messages) == 1


# -- dates -----------------------------------------------------------------------------------------------------


async def test_a_producers_countdown_is_sqss_delay(strict: StrictSqs) -> None:
    eta = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    far = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    async with opened(strict) as broker:
        await publish(broker, "q", task(1, eta=eta), task(2, eta=far), task(3, eta="2001-01-01T00:00:00"))
    near, later, past = strict.queues["q"].messages
    assert 99 <= near.visible - near.sent <= 101
    assert later.visible - later.sent == 900
    assert past.visible == past.sent
    assert not any(message.attributes for message in strict.queues["q"].messages)


async def test_a_date_beyond_any_delay_is_kept_by_hiding_again(strict: StrictSqs) -> None:
    """Three days: fifteen minutes of delay, then as long as SQS hides, again and again; and nobody is blamed for it."""
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        now = datetime.now(UTC)
        await publish(broker, "q", task(1, eta=(now + timedelta(days=3)).isoformat()))
        (message,) = strict.queues["q"].messages
        due = (now + timedelta(days=3)).timestamp()
        left = 3 * 86_400.0
        strict.advance(900)
        left -= 900
        hops = 0
        while left > 1:
            (delivery,) = await take(consumer, 1)
            assert decode_task(delivery.content).eta is not None
            # The server's time runs ahead of ours, which is asked for the date alone.
            assert await consumer.settle([Park(delivery, until=time.time() + left)]) == []
            hidden = message.visible - strict.now()
            assert 0 < hidden <= 43_200
            strict.advance(hidden)
            left -= hidden
            hops += 1
        assert hops == 7
        assert due > time.time()


async def test_receives_before_the_date_are_no_runs(strict: StrictSqs) -> None:
    """ApproximateReceiveCount counts them; the delivery does not, for it is what convictions rest on."""
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await broker.declare([Queue(name="q")])
        eta = datetime.now(UTC) + timedelta(seconds=2)
        plain = task(1, eta=eta.isoformat())
        strict.queues["q"].messages.clear()
        await publish(broker, "q", plain)
        (message,) = strict.queues["q"].messages
        message.visible = strict.now()  # Celery's producers send no delay
        (early,) = await take(consumer, 1)
        assert await consumer.settle([Park(early, until=eta.timestamp())]) == []
        (due,) = await take(consumer, 1)
        assert message.received == 2
        assert (due.redelivered, due.count) == (False, 1)
        assert await consumer.settle([Requeue(due)]) == []
        (again,) = await take(consumer, 1)
        assert (again.redelivered, again.count) == (True, 2)


async def test_what_carries_no_eta_is_hidden_by_the_consumer_itself(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await broker.publish([Publication(message=b"no envelope", queue="q", not_before=time.time() + 1000)])
        await publish(broker, "q", task(1))
        hidden, _ = strict.queues["q"].messages
        hidden.visible = strict.now()
        assert numbers(await take(consumer, 1)) == [1]
        assert 990 < hidden.visible - strict.now() <= 1000


@pytest.mark.parametrize("queue", ["q", "q.fifo"])
async def test_what_says_no_date_itself_is_put_aside_for_longer_than_sqs_hides(strict: StrictSqs, queue: str) -> None:
    """A snooze of a day: the message is sent anew with its date beside it, and comes back neither early nor counted."""
    async with opened(strict) as broker, consuming(broker, queue) as consumer:
        await publish(broker, queue, task(1, message_group_id="tenant"))
        (delivery,) = await take(consumer, 1)
        assert await consumer.settle([Park(delivery, until=time.time() + 86_400)]) == []
        (message,) = strict.queues[queue].messages
        assert (message.group, message.received) == ("tenant", 0)
        for seconds in (900, 43_200):  # as SQS delays, or hides, at most
            strict.advance(seconds)
            await publish(broker, queue, task(2))
            assert numbers(taken := await take(consumer, 1)) == [2]
            assert await consumer.settle(acks(taken)) == []
        message.attributes["asyncq.not_before"]["StringValue"] = "1.0"  # the day is over
        strict.advance(43_200)
        (again,) = await take(consumer, 1)
        assert again.content == delivery.content


async def test_what_is_put_aside_anew_is_not_there_twice_when_its_deletion_is_repeated(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        (delivery,) = await take(consumer, 1)
        parked = Park(delivery, until=time.time() + 86_400)
        strict.failing["DeleteMessageBatch"] = 10_000
        with impatient(broker), pytest.raises(BrokerConnectionError):
            await consumer.settle([parked])
        strict.failing.clear()
        assert await consumer.settle([parked]) == []
    assert len(strict.queues["q"].messages) == 1


# -- dead letters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queue", "dead"), [("q", "q-dead"), ("q.fifo", "q-dead.fifo")])
async def test_dead_letters_have_a_queue_of_their_own(strict: StrictSqs, queue: str, dead: str) -> None:
    letter = WireMessage(body=b"[]", headers={"task": "t", "asyncq-dead": {"reason": "tests"}})
    async with opened(strict) as broker, consuming(broker, queue) as consumer:
        await publish(broker, queue, task(1))
        (delivery,) = await take(consumer, 1)
        assert await consumer.settle([Dead(delivery, letter)]) == []
        (stored,) = await broker.peek(queue, "dead")
        assert (await broker.depth(queue)).dead == 1
    assert decode(stored.content)["headers"]["asyncq-dead"] == {"reason": "tests"}
    assert not strict.queues[queue].messages
    assert len(strict.queues[dead].messages) == 1


async def test_dead_letters_are_replayed(strict: StrictSqs) -> None:
    """What `asyncq dead replay` does: looked at, sent again, dropped; the others stay."""
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1), task(2))
        taken = await take(consumer, 2)
        for delivery in taken:
            letter = dead_letter(delivery.content, queue="q", reason="tests", at=time.time(), attempts=1)
            assert await consumer.settle([Dead(delivery, letter)]) == []
        chosen, other = await broker.peek("q", "dead")
        assert await replay(broker, "q", [chosen.key]) == 1
        (again,) = await take(consumer, 1)
        assert decode(again.content)["headers"]["id"] == decode(chosen.content)["headers"]["id"]
        assert [stored.key for stored in await broker.peek("q", "dead")] == [other.key]


async def test_dead_letters_of_a_fifo_queue_are_all_seen_and_dropped(strict: StrictSqs) -> None:
    """SQS shows ten messages of a group, and no more until those are deleted."""
    async with opened(strict) as broker, consuming(broker, "q.fifo") as consumer:
        await publish(broker, "q.fifo", *(task(n, message_group_id="tenant") for n in range(13)))
        for count in (10, 3):
            for delivery in await take(consumer, count):
                letter = dead_letter(delivery.content, queue="q.fifo", reason="tests", at=time.time(), attempts=1)
                assert await consumer.settle([Dead(delivery, letter)]) == []
        letters = await broker.peek("q.fifo", "dead")
        assert len(letters) == 13
        assert await replay(broker, "q.fifo", [letters[12].key]) == 1
        assert [message.group for message in strict.queues["q.fifo"].messages] == ["tenant"]  # its own again
        assert await broker.drop("q.fifo", "dead", [letter.key for letter in letters]) == 12


async def test_a_letter_that_is_written_is_not_written_again(strict: StrictSqs) -> None:
    async with opened(strict) as broker, consuming(broker, "q") as consumer:
        await publish(broker, "q", task(1))
        (delivery,) = await take(consumer, 1)
        burial = Dead(delivery, WireMessage(body=b"[]", headers={"task": "t"}))
        strict.failing["DeleteMessageBatch"] = 10_000
        with impatient(broker), pytest.raises(BrokerConnectionError):
            await consumer.settle([burial])
        strict.failing.clear()
        assert await consumer.settle([burial]) == []
    assert len(strict.queues["q-dead"].messages) == 1


async def test_who_looks_without_waiting_looks_more_than_once(strict: StrictSqs) -> None:
    """A poll that doesn't wait asks some of SQS's machines alone."""
    async with opened(strict, wait_time_seconds=0) as broker:
        await publish(broker, "q", task(1))
        strict.blind = 2
        assert len(await broker.peek("q", "ready")) == 1


async def test_who_looks_for_long_meets_no_message_twice(strict: StrictSqs) -> None:
    """What was taken first can be received again after a minute; here, at once."""
    strict.double_every = 1
    async with opened(strict) as broker:
        await publish(broker, "q", task(1), task(2))
        first, second = await broker.peek("q", "ready")
        strict.advance(60)
        for message in strict.queues["q"].messages:
            message.received = 0
        assert await broker.drop("q", "ready", [first.key, "another"]) == 1
        assert [message.id for message in strict.queues["q"].messages] == [second.key]


async def test_a_redrive_policy_that_takes_what_only_waits_is_told_of(
    strict: StrictSqs, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(strict) as broker:
        await broker.declare([Queue(name="q")])
        for count, told in ((20, 0), (3, 1), (3, 1)):
            strict.queues["q"].attributes["RedrivePolicy"] = json.dumps({"maxReceiveCount": count})
            await broker.depth("q")
            assert caplog.text.count("the redrive policy of q takes a message away after 3 receives") == told


def decode(content: bytes | WireMessage) -> dict[str, Any]:
    assert isinstance(content, bytes)
    return json.loads(content)
