"""`asyncq scheduled`: what waits for its time is listed, released and moved."""

from __future__ import annotations

import json

from cli.kit import Shell
from operating.kit import LATER, bury, call, ids, park, publish


async def test_what_is_parked_is_listed_by_due_time(shell: Shell) -> None:
    async with shell.broker() as broker:
        await publish(broker, call("b", eta=LATER + 1, retries=2), until=LATER + 1)
        await publish(broker, call("c", headers={"asyncq-unknown": {"looks": 2, "waited": 6}}), until=LATER + 2)
        await publish(broker, call("d"), b"garbage", until=LATER + 3)
        await park(broker, "a")
        await bury(broker, call("dead"))

    listed = (await shell.run("scheduled", "shop:queue", "--json", "--limit", "4")).document
    table = (await shell.run("scheduled", "shop:queue")).out.splitlines()

    assert listed["total"] == 5
    assert listed["scheduled"][1] == {
        "id": "b",
        "key": listed["scheduled"][1]["key"],
        "task": "shop.add",
        "queue": "celery",
        "due": "2033-05-18T03:33:21.000+00:00",
        "reason": "retry",
        "retries": 2,
    }
    reasons = [(each["id"], each["reason"]) for each in listed["scheduled"]]
    assert reasons == [("a", "eta"), ("b", "retry"), ("c", "unknown"), ("d", "held")]
    rows = [line.split() for line in table if "celery" in line]
    assert all(row[0].startswith("2033-05-1") and row[2] == "(in" for row in rows)
    assert [row[5:] for row in rows[:4]] == [
        ["a", "shop.add", "celery", "eta"],
        ["b", "shop.add", "celery", "retry", "2"],
        ["c", "shop.add", "celery", "unknown"],
        ["d", "shop.add", "celery", "held"],
    ]
    assert rows[4][5].startswith("key:")


async def test_a_short_list_says_that_there_is_more_and_an_empty_one_that_there_is_none(shell: Shell) -> None:
    async with shell.broker() as broker:
        await park(broker, "a", "b", "c")
    short = await shell.run("scheduled", "list", "shop:queue", "--limit", "2")
    assert "2 of 3 are shown" in short.err
    assert " c " not in short.out
    empty = await shell.run("scheduled", "shop:queue", "-Q", "slow,fast")
    assert (empty.code, empty.out, empty.err) == (0, "", "nothing is parked in slow, fast\n")


async def test_a_release_asks_and_puts_everything_back(shell: Shell) -> None:
    async with shell.broker() as broker:
        await park(broker, "a", "b")
        asked = await shell.run("scheduled", "shop:queue", "--release")
        assert asked.code == 2
        assert "Put 2 messages of celery back?" in asked.err
        assert "--yes" in asked.err
        assert await ids(broker, "parked") == ["a", "b"]

        done = await shell.run("scheduled", "--release", "shop:queue", "--yes", "--json")

        assert done.document == {"released": {"celery": 2}}
        assert (await ids(broker, "ready"), await ids(broker, "parked")) == (["a", "b"], [])


async def test_a_task_of_a_far_year_that_is_moved_to_now_runs_now(shell: Shell) -> None:
    async with shell.broker() as broker:
        await publish(broker, call("a", 1, eta=LATER), until=LATER)

    moved = await shell.run("scheduled", "move", "shop:queue", "a", "--in", "0")

    assert moved.code == 0
    assert moved.err.startswith("1 moved to ")
    await shell.run("worker", "shop:queue", "--burst")
    assert json.loads((await shell.run("result", "shop:queue", "a")).out) == 2


async def test_what_is_not_there_cannot_be_moved_and_the_rest_is(shell: Shell) -> None:
    async with shell.broker() as broker:
        await park(broker, "a", "b")
        done = await shell.run("scheduled", "move", "shop:queue", "b", "z", "--at", "2030-01-02T12:00:00Z", "--json")
        assert done.code == 1
        assert done.document == {"moved": 1, "due": "2030-01-02T12:00:00.000+00:00", "missing": ["z"]}
        assert "not parked in celery: z" in done.err
        assert await ids(broker, "parked") == ["b", "a"]


async def test_a_move_needs_a_time(shell: Shell) -> None:
    done = await shell.run("scheduled", "move", "shop:queue", "a")
    assert (done.code, done.out) == (2, "")
    assert "either --in SECONDS or --at TIME" in done.err
