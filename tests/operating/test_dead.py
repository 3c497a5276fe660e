"""Dead letters: found, given another life, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from asyncq._operating import MessageReader, Selection, drop_letters, find, replay
from asyncq.driver import Broker, DriverConfig, Place, Publication
from asyncq.errors import BrokerConnectionError, PublishError
from asyncq.protocol import Limits, WireMessage
from asyncq_brokers.memory import MemoryBroker
from operating.kit import QUEUE, bury, bury_next, call, entries, ids, keys, publish, stored, wires

GARBAGE = [b"no envelope", b"", bytes(range(256)), b'{"body": null}', b'{"body": "W10=", "headers": [NaN]}']


async def replay_all(broker: Broker) -> int:
    return await replay(broker, QUEUE, keys(await entries(broker, "dead")))


# -- finding -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pages")
async def test_letters_are_found_by_id_by_key_by_task_or_all(broker: Broker) -> None:
    messages = [call("a"), call("b", task="shop.ship"), call("a"), b"garbage", call("c")]
    for message in messages:
        await bury(broker, message)
    everything = await entries(broker, "dead")
    assert [entry.task_id for entry in everything] == ["a", "b", "a", None, "c"]
    garbage = everything[3]

    assert keys(await entries(broker, "dead", "a", "c", "z")) == keys([everything[0], everything[2], everything[4]])
    assert keys(await entries(broker, "dead", *garbage.names)) == keys([garbage])
    assert keys(await entries(broker, "dead", f"key:{everything[2].stored.key}")) == keys([everything[2]])
    assert keys(await entries(broker, "dead", garbage.stored.key)) == []
    assert keys(await entries(broker, "dead", task="shop.ship")) == keys([everything[1]])


async def test_an_entry_tells_what_a_letter_says(memory: MemoryBroker) -> None:
    await bury(memory, call("a", "x"), reason="rejected: no")
    (entry,) = await entries(memory, "dead")
    assert (entry.task, entry.task_id, entry.fault) == ("shop.add", "a", None)
    assert (entry.reason, entry.died_at, entry.attempts) == ("rejected: no", 1_700_000_000.0, 1)
    assert entry.call is not None
    assert entry.call.args == ["x"]
    assert entry.wire is not None
    assert "asyncq-dead" not in entry.wire.headers


async def test_a_message_whose_body_cannot_be_decoded_still_has_a_name(memory: MemoryBroker) -> None:
    await bury(memory, replace(call("a"), content_type="application/x-python-serialize", body=b"\x80\x04N."))
    await bury(memory, WireMessage(b"x", {"task": 5, "id": ["?"]}))
    pickled, odd = await entries(memory, "dead")
    assert (pickled.task, pickled.task_id, pickled.call, pickled.body) == ("shop.add", "a", None, b"\x80\x04N.")
    assert "pickle" in str(pickled.fault)
    assert (odd.task, odd.task_id, odd.body) == (None, None, b"x")


async def test_what_somebody_else_put_there_is_a_letter_too(memory: MemoryBroker) -> None:
    await memory.publish([Publication(message=b"\xff", queue=f"{QUEUE}.dead")])
    (entry,) = await entries(memory, "dead")
    assert (entry.body, entry.reason, entry.died_at, entry.attempts) == (b"\xff", None, None, None)
    assert await replay_all(memory) == 1
    assert [each.content for each in await stored(memory, "ready")] == [b"\xff"]


# -- replaying -----------------------------------------------------------------------------------------------


async def test_a_replay_is_the_message_as_it_came_with_nothing_of_its_past(broker: Broker) -> None:
    past: dict[str, Any] = {"asyncq-unknown": {"looks": 9, "waited": 3600.0}, "x-mine": [1, {"a": None}]}
    sent = call("a", "argument", priority=6, retries=3, headers=past)
    await bury(broker, sent)

    assert await replay_all(broker) == 1

    (again,) = await wires(broker, "ready")
    headers = {name: value for name, value in sent.headers.items() if name != "asyncq-unknown"}
    assert again == replace(sent, headers={**headers, "retries": 0})
    assert await stored(broker, "dead") == []


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_replayed_byte_for_byte(broker: Broker, garbage: bytes) -> None:
    await bury(broker, garbage)

    assert await replay_all(broker) == 1

    assert [each.content for each in await stored(broker, "ready")] == [garbage]
    await bury_next(broker)
    assert [entry.body for entry in await entries(broker, "dead")] == [garbage]


async def test_a_body_that_nobody_accepts_is_replayed_byte_for_byte(broker: Broker) -> None:
    pickled = replace(call("a"), content_type="application/x-python-serialize", content_encoding="binary", body=b"\x80")
    await bury(broker, pickled)
    assert await replay_all(broker) == 1
    assert await wires(broker, "ready") == [pickled]


async def test_what_was_too_large_once_can_be_run_when_it_is_not_any_more(memory: MemoryBroker) -> None:
    await bury(memory, replace(call("a"), body=b'[["%b"], {}, {}]' % (b"x" * 13 * 1024 * 1024)))
    (entry,) = await entries(memory, "dead")
    assert entry.task_id is None

    assert await replay_all(memory) == 1

    reader = MessageReader(Limits(max_message_bytes=32 * 1024 * 1024), ("json",))
    (again,) = [entry async for entry in find(memory, QUEUE, "ready", reader, Selection())]
    assert again.task_id == "a"


@pytest.mark.usefixtures("small_pages")
async def test_only_what_is_chosen_is_replayed_and_in_order(broker: Broker) -> None:
    for task_id in "abcdefg":
        await bury(broker, call(task_id))
    assert await replay(broker, QUEUE, keys(await entries(broker, "dead", *"bcdg"))) == 4
    assert await ids(broker, "ready") == ["b", "c", "d", "g"]
    assert await ids(broker, "dead") == ["a", "e", "f"]


async def test_a_crash_in_the_middle_of_a_replay_loses_nothing(memory: MemoryBroker, config: DriverConfig) -> None:
    await bury(memory, call("a"))
    with pytest.raises(BrokerConnectionError):
        await replay_all(Dying(config))
    assert (await ids(memory, "ready"), await ids(memory, "dead")) == (["a"], ["a"])


async def test_what_the_broker_refuses_stays_dead(memory: MemoryBroker, config: DriverConfig) -> None:
    for task_id in "abc":
        await bury(memory, call(task_id))
    with pytest.raises(PublishError, match="not b"):
        await replay_all(Choosy(config))
    assert (await ids(memory, "ready"), await ids(memory, "dead")) == (["a", "c"], ["b"])


class Dying(MemoryBroker):
    """Goes away before anything is dropped."""

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        raise BrokerConnectionError("gone")


class Choosy(MemoryBroker):
    """Refuses the task `b`."""

    async def publish(self, publications: Sequence[Publication]) -> None:
        failures: dict[int, Exception] = {}
        for position, publication in enumerate(publications):
            assert isinstance(publication.message, WireMessage)
            if publication.message.headers["id"] == "b":
                failures[position] = ValueError("not b")
        await super().publish([each for position, each in enumerate(publications) if position not in failures])
        if failures:
            raise PublishError(failures)


# -- dropping ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pages")
async def test_dropped_letters_are_gone_and_no_others(broker: Broker) -> None:
    for task_id in "abcde":
        await bury(broker, call(task_id))
    await publish(broker, call("ready"))
    assert await drop_letters(broker, QUEUE, keys(await entries(broker, "dead", *"abd"))) == 3
    assert (await ids(broker, "dead"), await ids(broker, "ready")) == (["c", "e"], ["ready"])
