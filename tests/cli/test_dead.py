"""`asyncq dead`: dead letters are listed, shown, replayed and dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from cli.kit import Shell
from operating.kit import bury, call, entries, ids
from servers import RedisServer

CANARY = "sesame-open"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_letters_are_listed_with_their_reasons(shell: Shell) -> None:
    async with shell.broker() as broker:
        await bury(broker, call("a"), reason="rejected: [red]not\x1b[31m today[/red]")
        await bury(broker, b"garbage", reason="undecodable: no JSON")

    listed = (await shell.run("dead", "list", "shop:queue", "--json")).document
    table = await shell.run("dead", "list", "shop:queue", "--limit", "1")

    assert listed["total"] == 2
    letter, garbage = listed["dead"]
    assert letter == {
        "id": "a",
        "key": letter["key"],
        "task": "shop.add",
        "queue": "celery",
        "reason": "rejected: [red]not\x1b[31m today[/red]",
        "time": "2023-11-14T22:13:20.000+00:00",
        "attempts": 1,
    }
    assert (garbage["id"], garbage["task"], garbage["reason"]) == (None, None, "undecodable: no JSON")
    assert "a" in table.out.split()
    assert "rejected: [red]not\\x1b[31m today[/red]" in table.out
    assert "1 of 2 are shown" in table.err


async def test_a_letter_is_shown_without_what_it_carries(shell: Shell) -> None:
    secret = call("a", CANARY, headers={"tenant": CANARY, "trace": "t"})
    secret.headers |= {"argsrepr": f"('{CANARY}',)", "kwargsrepr": CANARY, "stamps": {"by": CANARY}}
    pickled = replace(call("b"), content_type="application/x-python-serialize", body=b"\x80\x04 " + b"." * 14)
    async with shell.broker() as broker:
        await bury(broker, secret, replace(pickled, body=pickled.body + CANARY.encode()))
        await bury(broker, b'{"body": "broken: ' + CANARY.encode())
        (garbage,) = (await entries(broker, "dead"))[2].names

    for wanted in ([], ["--json"]):
        done = await shell.run("dead", "show", "shop:queue", "a", "b", garbage, *wanted)
        assert done.code == 0
        assert CANARY not in done.out + done.err
    call_, body, raw = done.document["dead"]
    assert (call_["args"], call_["kwargs"], call_["fault"]) == ("(<str 11>,)", "{}", None)
    assert call_["custom_headers"] == "{'tenant': <str 11>, 'trace': <str 1>}"
    assert call_["headers"]["origin"] == secret.headers["origin"]
    assert "pickle" in body["fault"]
    assert bytes.fromhex(body["first_bytes"]) == b"\x80\x04 ............."
    assert raw["content_type"] is None
    assert bytes.fromhex(raw["first_bytes"]) == b'{"body": "broken'

    plain = (await shell.run("dead", "show", "shop:queue", "a", garbage, "--values")).out
    lines = [line.split(maxsplit=1) for line in plain.splitlines()]
    assert ["args", f'["{CANARY}"]'] in lines
    assert ["tenant", f'"{CANARY}"'] in lines
    assert '00000000  7b 22 62 6f 64 79 22 3a 20 22 62 72 6f 6b 65 6e  |{"body": "broken|' in plain
    assert "|: sesame-open|" in plain


async def test_a_replayed_task_has_all_its_attempts_again(shell: Shell) -> None:
    async with shell.broker() as broker:
        await bury(broker, call("a", 1, retries=3), call("b", 1), call("c", task="shop.echo"))

        by_id = await shell.run("dead", "replay", "shop:queue", "a", "z", "--json")
        assert (by_id.code, by_id.document) == (1, {"replayed": {"celery": 1}, "missing": ["z"]})
        (again,) = await entries(broker, "ready")
        assert again.call is not None
        assert (again.task_id, again.call.retries) == ("a", 0)

        by_task = await shell.run("dead", "replay", "shop:queue", "--task", "shop.echo")
        assert by_task.err == "1 dead letter of celery replayed\n"
        assert (await ids(broker, "ready"), await ids(broker, "dead")) == (["a", "c"], ["b"])
    await shell.run("worker", "shop:queue", "--burst")
    assert json.loads((await shell.run("result", "shop:queue", "a")).out) == 2


async def test_on_redis_garbage_goes_back_as_it_came(shell: Shell, redis: RedisServer) -> None:
    shell.environment |= {"ASYNCQ_BROKER": redis.url(), "ASYNCQ_BACKEND": redis.url()}
    redis.command("LPUSH", "celery", "no envelope at all")
    await shell.run("worker", "shop:queue", "--burst")
    (letter,) = (await shell.run("dead", "list", "shop:queue", "--json")).document["dead"]
    assert letter["reason"].startswith("undecodable")

    done = await shell.run("dead", "replay", "shop:queue", f"key:{letter['key']}", "--json")

    assert done.document == {"replayed": {"celery": 1}, "missing": []}
    assert redis.command("LRANGE", "celery", "0", "-1") == b"*1\r\n$18\r\nno envelope at all\r\n"
    assert redis.command("LLEN", "celery.dead") == b":0\r\n"


async def test_letters_are_dropped_only_when_somebody_agrees(shell: Shell) -> None:
    async with shell.broker() as broker:
        await bury(broker, call("a"), call("b"), call("c"))
        asked = await shell.run("dead", "drop", "shop:queue", "a", "b")
        assert asked.code == 2
        assert "Delete 2 dead letters of celery?" in asked.err
        done = await shell.run("dead", "drop", "shop:queue", "a", "b", "--yes", "--json")
        assert (done.code, done.document) == (0, {"dropped": {"celery": 2}, "missing": []})
        assert await ids(broker, "dead") == ["c"]
        assert (await shell.run("dead", "drop", "shop:queue", "--all", "-y")).code == 0
        assert await ids(broker, "dead") == []


@pytest.mark.parametrize("words", [["replay", "shop:queue"], ["drop", "shop:queue", "a", "--all"]], ids=" ".join)
async def test_it_must_be_said_which(shell: Shell, words: list[str]) -> None:
    done = await shell.run("dead", *words)
    assert done.code == 2
    assert "ids, or --task NAME, or --all" in done.err


async def test_a_letter_that_is_not_there(shell: Shell) -> None:
    shown = await shell.run("dead", "show", "shop:queue", "z", "-Q", "slow")
    assert (shown.code, shown.out) == (1, "")
    assert "not among the dead letters of slow: z" in shown.err
    listed = await shell.run("dead", "list", "shop:queue")
    assert listed.err == "no dead letters in celery\n"
