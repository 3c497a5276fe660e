"""`asyncq cancel`: what nobody wants any more doesn't run."""

from __future__ import annotations

from cli.kit import Shell
from operating.kit import call, ids, park, publish


async def state(shell: Shell, task_id: str) -> str:
    return (await shell.run("result", "shop:queue", task_id, "--json")).document["status"]


async def test_what_waits_is_dropped_and_what_comes_back_is_refused(shell: Shell) -> None:
    async with shell.broker() as broker:
        await park(broker, "a", "b")
        await publish(broker, call("c", 1), call("a", 1), call("d", 1))

        done = await shell.run("cancel", "shop:queue", "a", "c", "elsewhere")

        assert done.code == 0
        assert done.out.splitlines() == [
            "a: dropped from celery (parked), celery (ready), and revoked",
            "c: dropped from celery (ready), and revoked",
            "elsewhere: revoked; it is in no queue: a worker may have it, or it isn't there (any more)",
        ]
        assert (await ids(broker, "parked"), await ids(broker, "ready")) == (["b"], ["d"])
        assert await state(shell, "a") == "REVOKED"
        await publish(broker, call("elsewhere", 1))
    await shell.run("worker", "shop:queue", "--burst")
    assert await state(shell, "elsewhere") == "REVOKED"
    assert await state(shell, "d") == "SUCCESS"


async def test_what_has_ended_cannot_be_cancelled(shell: Shell) -> None:
    async with shell.broker() as broker:
        await publish(broker, call("done", 1), call("failed", "x", task="shop.fail"))
    await shell.run("worker", "shop:queue", "--burst")
    done = await shell.run("cancel", "shop:queue", "done", "failed", "other", "--json")
    assert done.code == 1
    assert done.document == {
        "cancelled": [
            {"id": "done", "state": "SUCCESS", "revoked": False, "dropped": []},
            {"id": "failed", "state": "FAILURE", "revoked": False, "dropped": []},
            {"id": "other", "state": "PENDING", "revoked": True, "dropped": []},
        ]
    }
    assert await state(shell, "done") == "SUCCESS"


async def test_what_runs_is_left_alone_unless_told_otherwise(shell: Shell) -> None:
    shell.environment["ASYNCQ_TRACK_STARTED"] = "true"
    async with shell.worker():
        sent = await shell.run("send", "shop:queue", "shop.hang", "begun")
        task_id = sent.out.strip()
        await shell.file_appears("begun")
        gentle = await shell.run("cancel", "shop:queue", task_id)
        assert (gentle.code, gentle.out) == (0, f"{task_id}: revoked; STARTED: a worker has it, and may end it\n")
        assert await state(shell, task_id) == "STARTED"
        hard = await shell.run("cancel", "shop:queue", task_id, "--terminate")
        assert hard.out == f"{task_id}: revoked; STARTED: a worker has it, and is told to end it\n"
        ended = await shell.run("result", "shop:queue", task_id, "--wait", "--timeout", "10", "--json")
    assert ended.document["status"] == "REVOKED"


async def test_without_a_backend_it_is_dropped_and_revoked_all_the_same(shell: Shell) -> None:
    shell.write("mute.py", "from asyncq import AsyncQ\nqueue = AsyncQ('shop', backend='disabled')\n")
    async with shell.broker() as broker:
        await park(broker, "a")
        done = await shell.run("cancel", "mute", "a", "--json")
        assert done.document["cancelled"] == [
            {"id": "a", "state": None, "revoked": True, "dropped": [{"queue": "celery", "place": "parked"}]}
        ]
        assert await ids(broker, "parked") == []
