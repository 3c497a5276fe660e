"""Servers that are full, gone, silent or restarted, and deliveries that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from pamqp import commands

from amqp_kit import BOUND, make_broker, message, queue_name
from asyncq._clock import system_environment
from asyncq.driver import Ack, Consumer, ConsumerOptions, Delivery, DriverConfig, GiveBack, Publication, Queue
from asyncq.errors import BrokerConnectionError, BrokerFull
from asyncq_brokers._clients.amqp import ConnectionLost, Link, read_backend_config
from asyncq_brokers.amqp import AmqpBroker, ageing, intake
from asyncq_brokers.amqp.consumer import AmqpConsumer
from asyncq_brokers.amqp.lane import Lane
from chaos.proxy import Proxy
from servers import RabbitServer, free_port
from waiting import until


def consume(broker: AmqpBroker, *queues: Queue, prefetch: int = 200) -> AmqpConsumer:
    return broker.consume(queues, ConsumerOptions(node="tests@host", prefetch=prefetch))


async def publish(broker: AmqpBroker, queue: Queue, count: int) -> None:
    batch = [Publication(message=message(b"%d" % number), queue=queue.name, target=queue) for number in range(count)]
    await broker.publish(batch)


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(BOUND):
        while len(taken) < count:
            taken += await consumer.receive(count - len(taken))
    return taken


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.content.body for delivery in deliveries if not isinstance(delivery.content, bytes)]


def _lane(consumer: AmqpConsumer, delivery: Delivery) -> Lane:
    lane = consumer._settling.lane_of(delivery.tag)
    assert lane is not None
    return lane


# -- alarms ------------------------------------------------------------------------------------------------------


@contextmanager
def alarm(server: RabbitServer) -> Generator[None]:
    """The server is out of memory, as far as it knows."""
    server.control("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        server.control("set_vm_memory_high_watermark", "0.4")


async def test_a_full_server_is_told_and_what_was_taken_is_settled(own_server: RabbitServer) -> None:
    broker = make_broker(own_server.url(), timeout=5.0)
    queue = Queue(name=queue_name())
    try:
        await publish(broker, queue, 3)
        consumer = consume(broker, queue)
        first, second, third = await take(consumer, 3)
        blocking = alarm(own_server)
        await asyncio.to_thread(blocking.__enter__)
        try:
            async with asyncio.timeout(BOUND):
                while await _goes(broker, queue):
                    pass  # until the server looks at its memory
                # What was on its way then lies in the socket; what comes now is not even sent.
                with pytest.raises(BrokerFull, match="low on memory"):
                    await publish(broker, queue, 1)
            await broker.depth(queue.name)
            assert await consumer.settle([Ack(first), Ack(second)]) == []
        finally:
            await asyncio.to_thread(blocking.__exit__, None, None, None)
        await until(lambda: _goes(broker, queue))
        assert await consumer.settle([Ack(third)]) == []
    finally:
        await broker.close()


async def _goes(broker: AmqpBroker, queue: Queue) -> bool:
    try:
        await publish(broker, queue, 1)
    except (BrokerFull, BrokerConnectionError):
        return False
    return True


# -- connections ---------------------------------------------------------------------------------------------------


async def test_a_closed_connection_costs_one_redelivery_and_nothing_else(
    server: RabbitServer, broker: AmqpBroker
) -> None:
    queue = Queue(name=queue_name())
    consumer = consume(broker, queue)
    await publish(broker, queue, 2)
    held = await take(consumer, 2)
    port = _link_port(consumer)
    await asyncio.to_thread(server.close_connection, port)
    await until(lambda: _gone(consumer, held))
    again = await take(consumer, 2)
    assert bodies(again) == bodies(held)
    assert all(delivery.redelivered for delivery in again)
    assert await consumer.settle([Ack(held[0]), Ack(again[0]), Ack(again[1])]) == [held[0]]


async def _gone(consumer: Consumer, held: list[Delivery]) -> bool:
    return await consumer.extend(held) == held


def _link_port(consumer: AmqpConsumer) -> int:
    connection = consumer._link._connection
    assert connection is not None
    assert connection._transport is not None
    return connection._transport.get_extra_info("sockname")[1]


async def test_calls_under_way_end_in_a_connection_error_when_the_connection_is_cut(
    server: RabbitServer, vhost: str
) -> None:
    """Never in a CancelledError that nobody asked for."""
    async with Proxy(server.port) as proxy:
        broker = make_broker(server.url(vhost).replace(str(server.port), str(proxy.port)))
        queue = Queue(name=queue_name())
        try:
            await publish(broker, queue, 1)
            proxy.half_open("requests")
            calls = [asyncio.create_task(publish(broker, queue, 1)) for _ in range(3)]
            calls.append(asyncio.create_task(_depth(broker, queue)))
            await asyncio.sleep(0.1)
            proxy.reset()
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error).__mro__[1] for error in errors] == [BrokerConnectionError] * 4
            proxy.heal()
            await publish(broker, queue, 1)
        finally:
            await broker.close()


async def _depth(broker: AmqpBroker, queue: Queue) -> None:
    await broker.depth(queue.name)


async def test_a_forgotten_connection_is_found_by_its_silence(server: RabbitServer, vhost: str) -> None:
    """Also when nothing is sent on it: after two heartbeats."""
    async with Proxy(server.port) as proxy:
        url = server.url(vhost).replace(str(server.port), str(proxy.port))
        broker = make_broker(url, heartbeat=1)
        queue = Queue(name=queue_name())
        try:
            consumer = consume(broker, queue)
            for _ in range(2):  # after the first, it consumes anew, by a wider window
                await publish(broker, queue, 1)
                await consumer.settle([Ack(delivery) for delivery in await take(consumer, 1)])
            receiving = asyncio.create_task(take(consumer, 1))
            proxy.forget()
            async with asyncio.timeout(BOUND):
                await until(lambda: _published(broker, queue))
                assert len(await receiving) == 1
        finally:
            await broker.close()


async def _published(broker: AmqpBroker, queue: Queue) -> bool:
    try:
        async with asyncio.timeout(1):
            await publish(broker, queue, 1)
    except (BrokerConnectionError, TimeoutError):
        return False
    return True


async def test_the_next_server_of_a_list_is_tried_at_once(server: RabbitServer, vhost: str) -> None:
    dead = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    broker = make_broker(f"{dead};{dead};{server.url(vhost)}")
    try:
        async with asyncio.timeout(5):
            await broker.open()
        assert str(server.port) in broker.address
    finally:
        await broker.close()
    nowhere = make_broker(f"{dead};{dead}")
    with pytest.raises(BrokerConnectionError):
        await nowhere.open()
    await nowhere.close()


async def test_a_queue_that_is_deleted_while_a_lane_opens_is_consumed_again(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: what the server said between its consume-ok and our next turn was heard by nobody, and nothing came."""
    queue = Queue(name=queue_name())
    await publish(broker, queue, 1)
    begun, deleted = asyncio.Event(), asyncio.Event()
    really_open = Lane.open

    async def slow_open(*args: Any) -> None:
        await really_open(*args)
        if not deleted.is_set():
            begun.set()
            await deleted.wait()

    monkeypatch.setattr(Lane, "open", slow_open)
    consumer = consume(broker, queue)
    receiving = asyncio.create_task(consumer.receive(1))
    await asyncio.wait_for(begun.wait(), BOUND)
    link = broker._looking
    channel = await link.channel(link.deadline())
    await channel.call(commands.Queue.Delete(0, queue.name), link.deadline())
    await until(lambda: consumer._intake._lanes[0].ended)
    deleted.set()
    (_,) = await asyncio.wait_for(receiving, BOUND)  # it had come
    await broker.declare([queue])
    await publish(broker, queue, 1)
    assert bodies(await take(consumer, 1)) == [b"0"]


async def test_what_the_connection_had_pushed_when_it_was_lost_is_handed_out_once(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: a message from before the loss, in the moment in which a lane opens, was handed out and not ours."""
    queue = Queue(name=queue_name())
    await publish(broker, queue, 1)
    consumer = consume(broker, queue)
    really_open = Lane.open

    async def open_and_lose(lane: Lane, *args: Any) -> None:
        await really_open(lane, *args)
        if len(lost) < 1:
            await until(lambda: bool(lane.out))
            lost.append(lane)
            lane.channel.connection.fail(ConnectionLost("cut"))

    lost: list[Lane] = []
    monkeypatch.setattr(Lane, "open", open_and_lose)
    (delivery,) = await take(consumer, 1)
    assert delivery.redelivered
    assert await consumer.settle([Ack(delivery)]) == []


async def test_the_end_of_one_channel_settles_nothing_twice_on_another(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found: acknowledgements that had gone out were sent again after another channel's end, which ended theirs too."""
    monkeypatch.setattr(ageing, "_OLD", 0.0)
    queue = Queue(name=queue_name())
    consumer = consume(broker, queue)
    await publish(broker, queue, 6)
    (old,) = await take(consumer, 1)
    await consumer.maintain()
    monkeypatch.undo()
    young = await take(consumer, 5)
    _lane(consumer, old).channel.ack(9999)  # the server ends the channel, as it does after `consumer_timeout`
    gone = await consumer.settle([Ack(old), Ack(young[0])])
    assert gone == [old]
    assert await consumer.settle([Ack(old), Ack(young[0])]) == [old, young[0]]
    assert await consumer.extend(young[1:]) == []
    assert await consumer.settle([Ack(delivery) for delivery in young[1:]]) == []
    (again,) = await take(consumer, 1)
    assert again.redelivered
    assert bodies([again]) == bodies([old])


# -- deliveries ----------------------------------------------------------------------------------------------------


async def test_what_is_given_back_again_and_again_is_not_dropped(broker: AmqpBroker) -> None:
    """RabbitMQ 4 sets a limit of 20 where nothing else is said."""
    queue = Queue(name=queue_name(), arguments={"x-queue-type": "quorum", "x-delivery-limit": 20})
    consumer = consume(broker, queue)
    await publish(broker, queue, 1)
    for _ in range(30):
        (delivery,) = await take(consumer, 1)
        assert await consumer.settle([GiveBack(delivery)]) == []
    (delivery,) = await take(consumer, 1)
    assert delivery.redelivered
    assert bodies([delivery]) == [b"0"]
    assert await consumer.settle([Ack(delivery)]) == []


async def test_a_quorum_queue_counts_deliveries(broker: AmqpBroker) -> None:
    queue = Queue(name=queue_name(), arguments={"x-queue-type": "quorum"})
    consumer = consume(broker, queue)
    await publish(broker, queue, 1)
    counts: list[int | None] = []
    for _ in range(3):
        (delivery,) = await take(consumer, 1)
        assert delivery.content == message(b"0")  # the count is no header of the sender's
        counts.append(delivery.count)
        await consumer.settle([GiveBack(delivery)])
    assert counts[1:] == [2, 3]


async def test_what_nobody_asks_for_goes_to_others(broker: AmqpBroker) -> None:
    queue = Queue(name=queue_name())
    busy, idle = consume(broker, queue), consume(broker, queue)
    await publish(broker, queue, 3)
    first = await take(busy, 3)
    await busy.settle([Ack(delivery) for delivery in first])
    await publish(broker, queue, 3)  # pushed to the only one who has consumed, and who asks for nothing more
    assert sorted(bodies(await take(idle, 3))) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("queues", [1, 3])
async def test_no_more_is_out_than_prefetch(server: RabbitServer, vhost: str, broker: AmqpBroker, queues: int) -> None:
    names = [Queue(name=queue_name()) for _ in range(queues)]
    for queue in names:
        await publish(broker, queue, 20)
    consumer = consume(broker, *names, prefetch=6)
    held = await take(consumer, 6)
    assert len(held) == 6
    listed = await asyncio.to_thread(server.control, "list_queues", "-p", vhost, "name", "messages_unacknowledged")
    unacked = {line.split()[0]: int(line.split()[1]) for line in listed.splitlines()[1:]}
    assert sum(unacked[queue.name] for queue in names) <= 6


async def test_idle_queues_leave_the_prefetch_to_a_busy_one(broker: AmqpBroker) -> None:
    """Found: with twice as many queues as slots, a busy one got one message at a time."""
    name = queue_name()
    queues = [Queue(name=f"{name}.{number}") for number in range(20)]
    await publish(broker, queues[7], 10)
    consumer = consume(broker, *queues, prefetch=20)
    assert len(await take(consumer, 10)) == 10


async def test_what_many_queues_send_at_once_beyond_the_prefetch_goes_back(
    server: RabbitServer, vhost: str, broker: AmqpBroker
) -> None:
    """Windows that were open while their queues were empty may bring more than fits."""
    name = queue_name()
    queues = [Queue(name=f"{name}.{number}") for number in range(4)]
    await broker.declare(queues)
    consumer = consume(broker, *queues, prefetch=8)
    for queue in queues:  # each gets windows while the others are empty
        await publish(broker, queue, 8)
        held = await take(consumer, 8)
        assert await consumer.settle([Ack(delivery) for delivery in held]) == []
    for queue in queues:
        await publish(broker, queue, 20)
    first = await take(consumer, 8)
    assert len(first) == 8

    async def within_bounds() -> bool:
        listed = await asyncio.to_thread(server.control, "list_queues", "-p", vhost, "name", "messages_unacknowledged")
        unacked = {line.split()[0]: int(line.split()[1]) for line in listed.splitlines()[1:]}
        return sum(unacked[queue.name] for queue in queues) <= 8 + len(queues)

    await until(within_bounds)
    rest: list[Delivery] = []
    assert await consumer.settle([Ack(delivery) for delivery in first]) == []
    while len(rest) < 72:
        taken = await take(consumer, 1)
        rest += taken
        assert await consumer.settle([Ack(delivery) for delivery in taken]) == []
    for queue in queues:
        ours = [delivery for delivery in [*first, *rest] if delivery.queue == queue.name]
        assert sorted(bodies(ours), key=int) == [b"%d" % number for number in range(20)]


async def test_big_messages_wait_here_in_small_numbers(broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found: 60 messages of 6 MiB were all in memory at once."""
    monkeypatch.setattr(intake, "_MOST_BYTES", 4000)
    monkeypatch.setattr(intake, "_GUESS", 500)
    queue = Queue(name=queue_name())
    body = b"x" * 1000
    await broker.publish([Publication(message=message(body), queue=queue.name, target=queue) for _ in range(40)])
    consumer = consume(broker, queue, prefetch=40)
    came = 0
    while came < 40:
        taken = await take(consumer, 1)
        assert consumer._intake._waiting_bytes <= 4000
        came += len(taken)
        assert await consumer.settle([Ack(delivery) for delivery in taken]) == []
    assert consumer._intake._most == 4


async def test_a_queue_that_we_may_not_read_keeps_nothing_from_others(
    server: RabbitServer, vhost: str, broker: AmqpBroker, caplog: pytest.LogCaptureFixture
) -> None:
    name = queue_name()
    user = f"reader-{name}"
    ours, theirs = Queue(name=f"{name}.ours"), Queue(name=f"{name}.theirs")
    await broker.declare([ours, theirs])
    await asyncio.to_thread(server.add_user, user, "secret", vhost, configure=".*")
    await asyncio.to_thread(server.control, "set_permissions", "-p", vhost, user, ".*", ".*", rf"^{name}\.ours")
    reader = make_broker(server.url(vhost).replace("guest:guest", f"{user}:secret"))
    try:
        consumer = consume(reader, ours, theirs)
        await publish(broker, ours, 2)
        await publish(broker, theirs, 1)
        held = await take(consumer, 2)
        assert f"Nothing can be received from queue {theirs.name}" in caplog.text
        assert await consumer.settle([Ack(delivery) for delivery in held]) == []
        await asyncio.to_thread(server.control, "set_permissions", "-p", vhost, user, ".*", ".*", ".*")
        await consumer.maintain()  # rights are looked at again
        assert [delivery.queue for delivery in await take(consumer, 1)] == [theirs.name]
    finally:
        await reader.close()


async def test_windows_widen_as_soon_as_the_size_of_messages_is_known(broker: AmqpBroker) -> None:
    """The first are narrow, for the largest there may be. Who settled each batch at once kept them: 8 a round trip."""
    queue = Queue(name=queue_name())
    consumer = consume(broker, queue, prefetch=200)
    await publish(broker, queue, 50)
    left = 50
    async with asyncio.timeout(BOUND):
        while left:
            held = await consumer.receive(100)
            left -= len(held)
            assert await consumer.settle([Ack(delivery) for delivery in held]) == []
    assert [lane.windows for lane in consumer._intake._lanes] == [{queue.name: 100}]


async def test_an_old_delivery_shares_no_channel_with_new_ones(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ's consumer_timeout ends the channel of what is unacknowledged for too long."""
    monkeypatch.setattr(ageing, "_OLD", 0.0)
    queue = Queue(name=queue_name())
    consumer = consume(broker, queue)
    await publish(broker, queue, 2)
    (old,) = await take(consumer, 1)
    await consumer.maintain()
    (new,) = await take(consumer, 1)
    assert _lane(consumer, old).channel is not _lane(consumer, new).channel
    assert await consumer.settle([Ack(old), Ack(new)]) == []
    assert len(consumer._intake._lanes) == 1  # the old one is closed


async def test_what_nears_the_time_out_is_told_once(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(name=queue_name())
    consumer = consume(broker, queue)
    await publish(broker, queue, 3)
    first = await take(consumer, 2)
    await consumer.maintain()
    assert not caplog.records

    monkeypatch.setattr(ageing, "_OVERDUE", 0.0)
    await consumer.maintain()
    await consumer.maintain()
    (told,) = caplog.messages
    assert queue.name in told
    assert "consumer_timeout" in told
    assert ": 2. " in told

    last = await take(consumer, 1)
    assert await consumer.settle([Ack(first[0])]) == []
    await consumer.maintain()
    assert [": 1. " in message for message in caplog.messages] == [False, True]
    assert await consumer.settle([Ack(first[1]), *map(Ack, last)]) == []


async def test_nothing_is_sent_on_a_channel_that_was_left(url: str) -> None:
    """Found: a barrier that came after it ended the connection, and with that all that ran began a second time."""
    environment = system_environment()
    config = DriverConfig(url=url, app="tests", environment=environment)
    link = Link(read_backend_config(config), clock=environment.clock, timeout=10.0)
    try:
        left = await link.channel(link.deadline())
        before = left.barrier(link.deadline())
        left.leave()
        await before
        with pytest.raises(ConnectionLost):
            await left.barrier(link.deadline())
        left.leave()
        other = await link.channel(link.deadline())
        await other.barrier(link.deadline())
        assert other.connection is left.connection
        assert other.connection.alive
    finally:
        await link.close()
