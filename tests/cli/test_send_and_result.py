"""`asyncq send` and `asyncq result`."""

from __future__ import annotations

import json

import pytest

from cli.kit import Shell

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def finish(shell: Shell) -> None:
    done = await shell.run("worker", "shop:queue", "--burst")
    assert done.code == 0, done.err


async def test_an_argument_is_json_or_else_text(shell: Shell) -> None:
    values: dict[str, object] = {
        "5": 5,
        "plain text": "plain text",
        '"5"': "5",
        '{"a": [1, null, true]}': {"a": [1, None, True]},
        "{half": "{half",
        "ünïcode": "ünïcode",
    }
    async with shell.worker():
        for argument, value in values.items():
            answer = await shell.run("send", "shop:queue", "shop.echo", argument, "--wait")
            assert json.loads(answer.out) == value


async def test_keyword_arguments_and_a_dash(shell: Shell) -> None:
    sent = await shell.run("send", "shop:queue", "shop.add", "--kwargs", '{"b": 10}', "--json", "--", "-3")
    assert sent.document == {"id": sent.document["id"], "task": "shop.add"}
    await finish(shell)
    assert (await shell.run("result", "shop:queue", sent.document["id"])).out == "7\n"


async def test_waiting_prints_the_result_and_only_that(shell: Shell) -> None:
    async with shell.worker():
        plain = await shell.run("send", "shop:queue", "shop.add", "1", "2", "--wait")
        document = (await shell.run("send", "shop:queue", "shop.add", "1", "2", "--wait", "--json")).document
    assert (plain.code, plain.out) == (0, "3\n")
    assert document == {"id": document["id"], "status": "SUCCESS", "result": 3}


async def test_a_failed_task_is_exit_code_1_with_its_reason(shell: Shell) -> None:
    async with shell.worker():
        plain = await shell.run("send", "shop:queue", "shop.fail", "spoilt milk", "--wait")
        told = await shell.run("send", "shop:queue", "shop.fail", "spoilt milk", "--wait", "--json")
    assert (plain.code, plain.out) == (1, "")
    assert "FAILURE, ValueError: spoilt milk" in plain.err
    assert told.code == 1
    assert told.document["status"] == "FAILURE"
    assert told.document["error"] == {"type": "ValueError", "message": "spoilt milk"}
    assert "raise ValueError(reason)" in told.document["traceback"]


async def test_waiting_too_long_is_exit_code_4(shell: Shell) -> None:
    sent = await shell.run("send", "shop:queue", "shop.add", "1", "--wait", "--timeout", "0.1")
    assert (sent.code, sent.out) == (4, "")
    asked = await shell.run("result", "shop:queue", UNKNOWN, "--wait", "--timeout", "0.1")
    assert asked.code == 4


async def test_nothing_known_is_pending_and_exit_code_4(shell: Shell) -> None:
    plain = await shell.run("result", "shop:queue", UNKNOWN)
    told = await shell.run("result", "shop:queue", UNKNOWN, "--json")
    assert (plain.code, plain.out) == (4, "")
    assert "PENDING" in plain.err
    assert (told.code, told.document) == (4, {"id": UNKNOWN, "status": "PENDING", "info": None})


async def test_a_task_of_another_app_is_sent_with_a_word_about_it(shell: Shell) -> None:
    sent = await shell.run("send", "shop:queue", "elsewhere.task", "1", "--queue", "theirs")
    assert sent.code == 0
    assert "no task 'elsewhere.task'" in sent.err
    (depth,) = (await shell.run("queues", "shop:queue", "-Q", "theirs", "--json")).document["queues"]
    assert depth["ready"] == 1


@pytest.mark.parametrize("text", ["{", "[1]", "5"])
async def test_keyword_arguments_must_be_an_object(shell: Shell, text: str) -> None:
    done = await shell.run("send", "shop:queue", "shop.add", "1", "--kwargs", text)
    assert done.code == 2
    assert "--kwargs" in done.err


async def test_without_a_backend_a_wait_is_refused_by_name(shell: Shell) -> None:
    shell.write("mute.py", "from asyncq import AsyncQ\nqueue = AsyncQ('mute', backend='disabled')\n")
    done = await shell.run("send", "mute", "some.task", "--wait")
    assert done.code == 2
    assert "backend=" in done.err
