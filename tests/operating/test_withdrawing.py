"""Messages of tasks that nobody wants any more are taken out of their queue."""

from __future__ import annotations

import pytest

from asyncq._operating import MessageReader, Withdrawal, withdraw
from asyncq.driver import Broker, Coordinating, Fact
from operating.kit import QUEUE, call, entries, ids, park, publish


@pytest.mark.usefixtures("small_pages")
async def test_what_is_parked_or_ready_is_dropped_and_nothing_else(broker: Broker, reader: MessageReader) -> None:
    await park(broker, "a", "b", "c")
    await publish(broker, call("d"), b"garbage", call("e"), call("b"))

    withdrawn = await withdraw(broker, QUEUE, reader, ["b", "e", "z"], None)

    assert sorted(withdrawn, key=lambda each: each.task_id + each.place) == [
        Withdrawal("b", QUEUE, "parked"),
        Withdrawal("b", QUEUE, "ready"),
        Withdrawal("e", QUEUE, "ready"),
    ]
    assert await ids(broker, "parked") == ["a", "c"]
    assert await ids(broker, "ready") == ["d", None]


async def test_a_key_names_no_task(broker: Broker, reader: MessageReader) -> None:
    await publish(broker, call("a"))
    (entry,) = await entries(broker, "ready")
    assert await withdraw(broker, QUEUE, reader, [f"key:{entry.stored.key}"], None) == []
    assert await ids(broker, "ready") == ["a"]


async def test_a_unique_task_gives_back_the_claim_that_is_its_own(broker: Broker, reader: MessageReader) -> None:
    assert isinstance(broker, Coordinating)
    facts = broker.coordination
    await facts.put([Fact(key=f"unique.{name}", value=b"a", ttl=60) for name in ("own", "others")])
    for task_id, key in (("a", "unique.own"), ("b", "unique.others")):
        await publish(broker, call(task_id, headers={"asyncq-unique": {"key": key, "scope": "running"}}))

    assert len(await withdraw(broker, QUEUE, reader, ["a", "b"], facts)) == 2

    assert await facts.get(["unique.own", "unique.others"]) == [None, b"a"]
