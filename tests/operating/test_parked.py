"""What waits for its time: why, and how it is put back or put off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from asyncq._operating import MessageReader, Reason, first, reason_of, release, reschedule
from asyncq.driver import Broker, DriverConfig, Place
from asyncq.errors import BrokerConnectionError
from asyncq_brokers.memory import MemoryBroker
from operating.kit import LATER, QUEUE, call, entries, ids, park, publish, stored, wires


async def test_a_message_tells_why_it_is_parked(memory: MemoryBroker) -> None:
    unknown = call("unknown", headers={"asyncq-unknown": {"looks": 3, "waited": 36}})
    snoozed = call("snoozed", retries=1)
    for message in (call("eta", eta=LATER), call("retry", eta=LATER, retries=2), unknown, snoozed, b"garbage"):
        await publish(memory, message, until=LATER)
    await publish(memory, call("limited", eta=LATER), until=LATER + 5)
    await publish(memory, call("moved", eta=LATER), until=LATER - 5)

    reasons = {entry.task_id: reason_of(entry) for entry in await entries(memory, "parked")}

    assert reasons == {
        "eta": Reason.ETA,
        "moved": Reason.ETA,
        "retry": Reason.RETRY,
        "unknown": Reason.UNKNOWN,
        "snoozed": Reason.HELD,
        "limited": Reason.HELD,
        None: Reason.HELD,
    }


@pytest.mark.usefixtures("small_pages")
async def test_the_first_are_those_that_are_due_first(memory: MemoryBroker, reader: MessageReader) -> None:
    for number in (3, 1, 2, 5, 4):
        await park(memory, f"{number}", until=LATER + number)
    assert [each.task_id for each in await first(memory, QUEUE, "parked", reader, limit=3)] == ["1", "2", "3"]
    assert len(await first(memory, QUEUE, "parked", reader, limit=100)) == 5


# -- releasing -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pages")
async def test_a_release_puts_everything_back_as_it_stands(broker: Broker) -> None:
    await park(broker, *"abcde")
    before = [each.content for each in await stored(broker, "parked")]

    assert await release(broker, QUEUE) == 5

    assert [each.content for each in await stored(broker, "ready")] == before
    assert await stored(broker, "parked") == []
    assert await release(broker, QUEUE) == 0


class ParkingAgain(MemoryBroker):
    """Has a worker that parks at once what is put back."""

    async def move(self, queue: str, place: Place, keys: Sequence[str], *, until: float | None = None) -> int:
        return await super().move(queue, place, keys, until=LATER)


async def test_a_release_ends_although_a_worker_parks_everything_again(
    memory: MemoryBroker, config: DriverConfig
) -> None:
    await park(memory, *"abc")
    assert await release(ParkingAgain(config), QUEUE) == 3
    assert await ids(memory, "parked") == ["a", "b", "c"]


# -- moving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [LATER - 1000, LATER + 1000])
@pytest.mark.usefixtures("small_pages")
async def test_what_is_moved_says_so_itself_and_stays_the_same_otherwise(
    broker: Broker, reader: MessageReader, until: float
) -> None:
    await park(broker, *"abcde")
    before = {wire.headers["id"]: wire for wire in await wires(broker, "parked")}

    moved = await reschedule(broker, reader, await entries(broker, "parked", "a", "d", "e"), until=until, now=0.0)

    assert moved == 3
    after = {wire.headers["id"]: wire for wire in await wires(broker, "parked")}
    for task_id, wire in before.items():
        if task_id in "ade":
            wire.headers["eta"] = datetime.fromtimestamp(until, UTC).isoformat()
    assert after == before
    dues = {entry.task_id: entry.stored.until for entry in await entries(broker, "parked")}
    assert dues == pytest.approx({"a": until, "b": LATER, "c": LATER, "d": until, "e": until})


async def test_what_is_moved_to_now_is_ready(broker: Broker, reader: MessageReader) -> None:
    await park(broker, "a", "b")
    assert await reschedule(broker, reader, await entries(broker, "parked", "b"), until=100.0, now=100.0) == 1
    assert (await ids(broker, "ready"), await ids(broker, "parked")) == (["b"], ["a"])


async def test_what_cannot_be_read_is_moved_as_it_stands(broker: Broker, reader: MessageReader) -> None:
    await publish(broker, b"garbage", until=LATER)
    assert await reschedule(broker, reader, await entries(broker, "parked"), until=LATER + 9, now=0.0) == 1
    (moved,) = await stored(broker, "parked")
    assert (moved.content, moved.until) == (b"garbage", LATER + 9)


async def test_what_is_gone_meanwhile_is_not_counted(memory: MemoryBroker, reader: MessageReader) -> None:
    await park(memory, "a", "b")
    found = await entries(memory, "parked")
    await memory.drop(QUEUE, "parked", [found[0].stored.key])
    assert await reschedule(memory, reader, found, until=LATER, now=0.0) == 1


class Dying(MemoryBroker):
    """Goes away before anything is dropped."""

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        raise BrokerConnectionError("gone")


async def test_a_crash_in_the_middle_of_a_move_loses_nothing(
    memory: MemoryBroker, config: DriverConfig, reader: MessageReader
) -> None:
    await park(memory, "a", "b")
    with pytest.raises(BrokerConnectionError):
        await reschedule(Dying(config), reader, await entries(memory, "parked"), until=LATER + 9, now=0.0)
    assert await ids(memory, "parked") == ["a", "b", "a", "b"]
