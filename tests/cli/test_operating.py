"""`asyncq queues`, `purge` and `check`: what an operator types."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import Iterator

import pytest

from cli.kit import PATIENCE, Shell
from servers import RedisServer


async def send(shell: Shell, *arguments: str) -> None:
    done = await shell.run("send", "shop:queue", *arguments)
    assert done.code == 0, done.err


async def ready(shell: Shell, queue: str = "celery") -> int:
    (depth,) = (await shell.run("queues", "shop:queue", "-Q", queue, "--json")).document["queues"]
    return depth["ready"]


async def test_queues_is_a_table_for_people_and_json_for_scripts(shell: Shell) -> None:
    await send(shell, "shop.add", "1")
    table = await shell.run("queues", "shop:queue")
    assert table.out.split()[:6] == ["queue", "ready", "in", "flight", "parked", "dead"]
    assert ["celery", "1", "0", "0", "0"] in [line.split() for line in table.out.splitlines()]
    assert (await shell.run("queues", "shop:queue", "--json")).document == {
        "queues": [{"name": "celery", "ready": 1, "in_flight": 0, "parked": 0, "dead": 0}]
    }


async def test_a_task_in_flight_is_counted_as_such(shell: Shell) -> None:
    async with shell.worker():
        await send(shell, "shop.hang", "begun")
        await shell.file_appears("begun")
        (depth,) = (await shell.run("queues", "shop:queue", "--json")).document["queues"]
    assert (depth["ready"], depth["in_flight"]) == (0, 1)


async def test_purge_deletes_what_waits_in_the_queues_that_are_named(shell: Shell) -> None:
    await send(shell, "shop.add", "1", "--queue", "slow")
    await send(shell, "shop.add", "1")
    done = await shell.run("purge", "shop:queue", "-Q", "slow", "--yes", "--json")
    assert (done.code, done.document) == (0, {"purged": {"slow": 1}})
    assert (await ready(shell, "slow"), await ready(shell)) == (0, 1)


async def test_purge_deletes_nothing_unasked(shell: Shell) -> None:
    await send(shell, "shop.add", "1")
    done = await shell.run("purge", "shop:queue")
    assert done.code == 2
    assert "--yes" in done.err
    assert await ready(shell) == 1


@pytest.mark.parametrize(("reply", "code", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
async def test_purge_asks_before(shell: Shell, reply: bytes, code: int, left: int) -> None:
    await send(shell, "shop.add", "1")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, reply)
        done = await shell.run("purge", "shop:queue", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.code == code
    assert "Delete 1 message of celery?" in done.err
    assert await ready(shell) == left


async def test_check_tells_what_works(shell: Shell) -> None:
    done = await shell.run("check", "shop:queue", "--json")
    assert done.code == 0
    assert done.document["ok"] is True
    verdicts = {(each["subject"], each["verdict"]) for each in done.document["findings"]}
    assert {("tasks", "ok"), ("broker", "ok"), ("queue celery", "ok"), ("results", "ok")} <= verdicts
    plain = await shell.run("check", "shop:queue")
    assert plain.code == 0
    assert str(shell.home) in plain.out


async def test_check_leaves_nothing_behind(shell: Shell) -> None:
    await shell.run("check", "shop:queue")
    assert await ready(shell) == 0


async def test_check_notes_dead_letters(shell: Shell) -> None:
    await send(shell, "shop.refuse", "not today")
    await shell.run("worker", "shop:queue", "--burst")
    done = await shell.run("check", "shop:queue")
    assert done.code == 0
    assert "0 messages ready, and 1 dead letter for you" in done.out


async def test_check_goes_on_when_a_server_is_away_and_shows_no_password(shell: Shell) -> None:
    done = await shell.run(
        "check", "shop:queue", "--json", environment={"ASYNCQ_BROKER": "redis://user:sesame@127.0.0.1:1/0"}
    )
    assert done.code == 3
    assert done.document["ok"] is False
    verdicts = {each["subject"]: each["verdict"] for each in done.document["findings"]}
    assert verdicts["broker"] == "unreachable"
    assert "results" in verdicts
    assert "sesame" not in done.out + done.err


async def test_check_names_a_broker_that_only_this_process_sees(shell: Shell) -> None:
    done = await shell.run("check", "shop:queue", environment={"ASYNCQ_BROKER": "memory://"})
    assert done.code == 0
    assert "it lives in one process" in done.out


async def test_check_passes_on_what_the_driver_says_of_its_server(shell: Shell) -> None:
    with RedisServer(appendonly="no") as forgetful:
        done = await shell.run("check", "shop:queue", environment={"ASYNCQ_BROKER": forgetful.url()})
    assert done.code == 0
    assert "note        broker: Redis at " in done.out
    assert "appendonly yes keeps them" in done.out


async def test_check_names_a_scheme_without_driver(shell: Shell) -> None:
    done = await shell.run("check", "shop:queue", environment={"ASYNCQ_BROKER": "carrier-pigeon://roof"})
    assert done.code == 1
    assert "carrier-pigeon://" in done.out


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A suite in the background of a shell is to ignore interrupts, and so would the programs that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
async def test_ctrl_c_is_quiet(shell: Shell) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "asyncq", "send", "shop:queue", "shop.add", "1", "--wait"],
        cwd=shell.folder,
        env=shell.environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert (await process.stderr.readline()).startswith(b"sent ")
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, err) == (130, b"")
