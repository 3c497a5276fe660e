"""`asyncq worker`, as a process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncq._cores import usable_cores
from cli.kit import SHOP, Shell


async def test_it_says_what_it_serves_and_runs_what_is_sent(shell: Shell) -> None:
    async with shell.worker() as worker:
        banner = worker.log
        done = await shell.run("send", "shop:queue", "shop.add", "1", "2", "--wait", "--timeout", "10")
        worker.signal(signal.SIGTERM)
        code = await worker.ended()
    assert "app 'shop'" in banner
    assert "node         asyncq" in banner
    assert f"broker       {shell.home}/shop.sqlite\n" in banner
    assert "queues       celery\n" in banner
    assert "shop.add, shop.echo, shop.fail, shop.hang, shop.nap, shop.refuse" in banner
    assert "concurrency  100 (default)" in banner
    assert (done.code, done.out) == (0, "3\n")
    assert code == 0
    assert "succeeded=1" in worker.log


@pytest.mark.parametrize(
    ("arguments", "environment", "origin"),
    [
        (["-c", "7"], {"ASYNCQ_CONCURRENCY": "9"}, "concurrency  7 (--concurrency)"),
        ([], {"ASYNCQ_CONCURRENCY": "9"}, "concurrency  9 (environment variable ASYNCQ_CONCURRENCY)"),
    ],
)
async def test_the_banner_says_where_the_concurrency_came_from(
    shell: Shell, arguments: list[str], environment: dict[str, str], origin: str
) -> None:
    done = await shell.run("worker", "shop:queue", "--burst", *arguments, environment=environment)
    assert done.code == 0
    assert origin in done.err


async def test_burst_ends_when_the_queues_are_empty(shell: Shell) -> None:
    ids = [(await shell.run("send", "shop:queue", "shop.add", str(number))).out.strip() for number in range(3)]
    assert (await shell.run("worker", "shop:queue", "--burst")).code == 0
    answers = [await shell.run("result", "shop:queue", task_id) for task_id in ids]
    assert [(each.code, each.out) for each in answers] == [(0, "1\n"), (0, "2\n"), (0, "3\n")]


async def test_it_serves_the_queues_that_it_is_given_and_no_others(shell: Shell) -> None:
    for name in ("slow", "fast", "celery"):
        await shell.run("send", "shop:queue", "shop.add", "1", "--queue", name)
    done = await shell.run("worker", "shop:queue", "--burst", "-Q", "slow, fast")
    assert "queues       slow, fast\n" in done.err
    depths = (await shell.run("queues", "shop:queue", "-Q", "slow,fast,celery", "--json")).document
    assert [(each["name"], each["ready"]) for each in depths["queues"]] == [("slow", 0), ("fast", 0), ("celery", 1)]


async def test_the_first_signal_lets_running_tasks_end(shell: Shell) -> None:
    async with shell.worker() as worker:
        task_id = (await shell.run("send", "shop:queue", "shop.nap", "begun", "1.0")).out.strip()
        await shell.file_appears("begun")
        worker.signal(signal.SIGINT)
        await worker.until("SIGINT: taking nothing new")
        assert await worker.ended() == 0
    assert (await shell.run("result", "shop:queue", task_id)).out == '"rested"\n'


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]], ids=["patient", "at once"])
async def test_what_does_not_end_in_time_goes_back_to_its_queue(shell: Shell, signals: list[signal.Signals]) -> None:
    patience = "0.2" if len(signals) == 1 else "600"
    async with shell.worker("--shutdown-timeout", patience) as worker:
        await shell.run("send", "shop:queue", "shop.hang", "begun")
        await shell.file_appears("begun")
        for number in signals:
            worker.signal(number)
            await worker.until(number.name)
        assert await worker.ended() == 0
    (depth,) = (await shell.run("queues", "shop:queue", "--json")).document["queues"]
    assert depth == {"name": "celery", "ready": 1, "in_flight": 0, "parked": 0, "dead": 0}


async def test_a_json_log_is_one_object_a_line(shell: Shell) -> None:
    await shell.run("send", "shop:queue", "shop.fail", '"spoilt milk"')
    done = await shell.run("worker", "shop:queue", "--burst", "--logformat", "json", "--name", "blue")
    events = [json.loads(line) for line in done.err.splitlines()]
    first = events[0]
    assert first["message"].startswith("asyncq ")
    assert first["node"].startswith("blue-1@")
    assert first["queues"] == ["celery"]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(event) for event in events))
    assert any(event.get("task_id") for event in events)


async def test_the_log_level_is_obeyed(shell: Shell) -> None:
    done = await shell.run("worker", "shop:queue", "--burst", "--loglevel", "error")
    assert done.code == 0
    assert "Ready" not in done.err


async def test_the_users_own_logging_has_the_last_word(shell: Shell) -> None:
    shell.write(
        "loud.py",
        "import logging.config\nfrom asyncq import AsyncQ\nqueue = AsyncQ('loud')\n"
        "logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False,"
        " 'formatters': {'f': {'format': 'MINE %(message)s'}},"
        " 'handlers': {'h': {'class': 'logging.StreamHandler', 'formatter': 'f'}},"
        " 'root': {'handlers': ['h'], 'level': 'INFO'}})\n",
    )
    done = await shell.run("worker", "loud", "--burst")
    assert done.code == 0
    assert "MINE Ready" in done.err


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_event_loop_can_be_chosen(shell: Shell, loop: str) -> None:
    done = await shell.run("worker", "shop:queue", "--burst", "--loop", loop)
    assert done.code == 0
    assert f", {loop})" in done.err


async def test_a_server_that_stays_away_is_told_without_its_password(shell: Shell) -> None:
    done = await shell.run(
        "worker",
        "shop:queue",
        environment={"ASYNCQ_BROKER": "redis://user:sesame@127.0.0.1:1/0", "ASYNCQ_START_TIMEOUT": "0.1"},
    )
    assert done.code == 3
    assert done.err.splitlines()[-1].startswith("asyncq: ")
    assert "127.0.0.1:1" in done.err
    assert "sesame" not in done.err
    assert "Traceback" not in done.err


COLLECTED = """
import gc

from asyncq import AsyncQ

{first}
queue = AsyncQ("shop")


@queue.task
async def collector() -> tuple[int, bool]:
    return gc.get_threshold()[0], gc.get_freeze_count() > 10_000
"""


@pytest.mark.parametrize(("first", "young"), [("", 10_000), ("gc.set_threshold(500)", 500)], ids=["ours", "the app's"])
async def test_it_looks_for_garbage_seldom_unless_the_app_says_otherwise(shell: Shell, first: str, young: int) -> None:
    shell.write("shop.py", COLLECTED.format(first=first))
    task_id = (await shell.run("send", "shop:queue", "shop.collector")).out.strip()
    await shell.run("worker", "shop:queue", "--burst")
    assert (await shell.run("result", "shop:queue", task_id)).out == f"[{young}, true]\n"


CHATTY = """
import logging

from asyncq import AsyncQ

queue = AsyncQ("shop")


@queue.task(executor="process")
def talk() -> None:
    logging.getLogger("shop").info("said in a process")
    logging.getLogger("shop").debug("whispered in a process")
"""


async def test_the_process_of_a_task_logs_as_the_worker_does(shell: Shell) -> None:
    shell.write("shop.py", CHATTY)
    await shell.run("send", "shop:queue", "shop.talk")
    done = await shell.run("worker", "shop:queue", "--burst", "--name", "blue", "--logformat", "json")
    assert "whispered" not in done.err
    [event] = [json.loads(line) for line in done.err.splitlines() if "said in a process" in line]
    assert (event["level"], event["logger"]) == ("info", "shop")
    assert event["node"].startswith("blue-1@")


# -- the processes under it ----------------------------------------------------------------------------------------


async def test_as_many_processes_as_asked_for_share_the_work(shell: Shell) -> None:
    async with shell.worker("--processes", "2", "--name", "blue", "-c", "1") as worker:
        await worker.until("Ready: 2 processes")
        naps = [await shell.run("send", "shop:queue", "shop.nap", f"begun-{number}", "1.0") for number in range(2)]
        await asyncio.gather(*(shell.file_appears(f"begun-{number}") for number in range(2)))
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    for nap in naps:
        assert (await shell.run("result", "shop:queue", nap.out.strip())).out == '"rested"\n'
    assert worker.log.count("app 'shop'") == 1
    assert worker.log.count("  node         blue-1@") == 1


@pytest.mark.parametrize("number", ["0", "-1", "many"])
async def test_a_number_of_processes_is_a_number_or_auto(shell: Shell, number: str) -> None:
    done = await shell.run("worker", "shop:queue", "--processes", number)
    assert done.code == 2
    assert "--processes" in done.err
    assert "auto" in done.err


@pytest.mark.parametrize(
    ("share", "cores"),
    [("max 100000", 4), ("150000 100000", 2), ("20000 100000", 1), ("900000 100000", 4), ("what is this", 4)],
)
def test_a_container_has_as_many_cores_as_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    (tmp_path / "cpu.max").write_text(f"{share}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores


async def test_what_a_killed_process_held_is_run_by_its_successor(shell: Shell) -> None:
    async with shell.worker() as worker:
        process = re.search(r"\(process (\d+),", worker.log)
        assert process is not None
        task_id = (await shell.run("send", "shop:queue", "shop.nap", "begun", "1.0")).out.strip()
        await shell.file_appears("begun")
        os.kill(int(process[1]), signal.SIGKILL)
        await worker.until("died: SIGKILL")
        done = await shell.run("result", "shop:queue", task_id, "--wait", "--timeout", "15")
        assert (done.code, done.out) == (0, '"rested"\n')
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_process_is_replaced_after_so_many_tasks(shell: Shell) -> None:
    async with shell.worker("--max-tasks-per-child", "1") as worker:
        for number in range(2):
            await shell.run("send", "shop:queue", "shop.add", str(number), "--wait", "--timeout", "15")
        await worker.until("Started")
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_change_of_the_source_is_served_without_a_restart_by_hand(shell: Shell) -> None:
    async with shell.worker("--reload") as worker:
        shell.write("shop.py", "this is no Python")
        await worker.until("Waiting for a change")
        assert "SyntaxError" in worker.log
        shell.write("shop.py", SHOP.replace("return a + b", "return a - b"))
        done = await shell.run("send", "shop:queue", "shop.add", "1", "2", "--wait", "--timeout", "15")
        assert done.out == "-1\n"
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


def test_files_beside_the_app_do_not_stand_in_for_the_standard_library(shell: Shell, tmp_path: Path) -> None:
    """A script's own folder comes first on the path, not the current one; so it is for the processes that follow."""
    for name in ("selectors", "signal", "json", "subprocess"):
        shell.write(f"{name}.py", "raise SystemExit('not the real one')")
    script = shell.write("bin/asyncq", "from asyncq.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, str(script), "worker", "shop:queue", "--burst"],
        cwd=tmp_path,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_options_of_the_interpreter_hold_for_the_processes_of_a_worker() -> None:
    given = ["-B", "-s", "-OO", "-P", "-X", "dev", "-X", "importtime=0", "-W", "error::UserWarning"]
    look = "import sys; print(sys.flags, sys._xoptions, dict.fromkeys(sys.warnoptions))"

    def run(options: list[str], code: str) -> str:
        command = [sys.executable, *options, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    passed_on = json.loads(
        run(given, "import json; from asyncq.cli._supervise import *; print(json.dumps(interpreter_options()))")
    )
    assert run(passed_on, look) == run(given, look)


def test_a_process_of_a_worker_knows_no_command_line() -> None:
    program = "import sys, asyncq.cli._child; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) & {"typer", "click", "rich"} == set()
