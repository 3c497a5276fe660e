"""Which message a confirm or a return means."""

from __future__ import annotations

import asyncio

import pytest

from asyncq.errors import BrokerConnectionError
from asyncq_brokers._clients.amqp import ConnectionLost, encode_route
from asyncq_brokers._clients.amqp.confirms import REFUSED, UNROUTABLE, Confirms, Outgoing


def sent(body: bytes, *, key: str = "key", header: bytes = b"header") -> Outgoing:
    return Outgoing(encode_route("exchange", key), header, body)


def expect(confirms: Confirms, *messages: Outgoing) -> asyncio.Future[dict[int, str]]:
    future: asyncio.Future[dict[int, str]] = asyncio.get_running_loop().create_future()
    confirms.expect(messages, future)
    return future


async def test_each_batch_learns_of_its_own() -> None:
    confirms = Confirms()
    first, second = expect(confirms, sent(b"1"), sent(b"2")), expect(confirms, sent(b"3"))
    confirms.confirmed(2, multiple=False, refused=True)
    confirms.confirmed(3, multiple=False, refused=False)
    assert not first.done()
    assert await second == {}
    confirms.confirmed(1, multiple=True, refused=False)
    assert await first == {1: REFUSED}
    assert await expect(confirms) == {}


async def test_several_are_confirmed_at_once() -> None:
    confirms = Confirms()
    first, second = expect(confirms, sent(b"1"), sent(b"2")), expect(confirms, sent(b"3"))
    confirms.confirmed(2, multiple=True, refused=False)
    assert await first == {}
    assert not second.done()


async def test_equal_messages_come_back_one_by_one() -> None:
    confirms = Confirms()
    fate = expect(confirms, sent(b"same"), sent(b"other"), sent(b"same"))
    confirms.returned(sent(b"same"))
    confirms.returned(sent(b"same"))
    confirms.confirmed(3, multiple=True, refused=False)
    assert await fate == {0: UNROUTABLE, 2: UNROUTABLE}


async def test_what_comes_back_with_another_header_is_known_by_its_way_and_its_body() -> None:
    """RabbitMQ takes BCC out of the headers: nothing that came back may count as stored."""
    confirms = Confirms()
    fate = expect(confirms, sent(b"1", key="else"), sent(b"2"), sent(b"1", header=b"with BCC"), sent(b"1"))
    confirms.returned(sent(b"1", header=b"without"))
    confirms.returned(sent(b"1"))
    confirms.confirmed(4, multiple=True, refused=False)
    assert await fate == {2: UNROUTABLE, 3: UNROUTABLE}


async def test_the_end_is_told_to_all_who_wait() -> None:
    confirms = Confirms()
    waits = [expect(confirms, sent(b"1")), expect(confirms, sent(b"2"))]
    waits[0].cancel()
    confirms.fail(ConnectionLost("gone"))
    with pytest.raises(BrokerConnectionError, match="gone"):
        await waits[1]
    confirms.confirmed(2, multiple=True, refused=False)  # too late, and for nobody
